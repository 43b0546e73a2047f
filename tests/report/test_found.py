"""Pages of a library: what a search found, and groups of pictures that resemble each other."""

from pathlib import Path
from typing import Any

import pytest

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Item
from ecliptic.library import DuplicateGroup, Library
from ecliptic.report import duplicates_page, search_page
from tests import tiny
from tests.library.photos import save_photo


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A library of four files, two of which are copies, and of one row without a file."""
    folder = tmp_path_factory.mktemp("pages")
    write(tiny.checkpoint("vit"), folder / "model")
    for name in ("a/one.png", "b/one.png", "<i>.png"):
        save_photo(folder / "photos" / name, len(name), 64, 48)
    save_photo(folder / "photos" / "alone.png", 3, 90, 60)
    made = Library.create(folder / "x.library", ecliptic.load(str(folder / "model")))
    data = (folder / "photos" / "alone.png").read_bytes()
    made.add([folder / "photos", Item("row & 7", data + b"!")])
    return made


def loads_nothing(page: Any) -> bool:
    return not any(
        word in str(page) for word in ("http://", "https://", "<script", 'src="/', "url(")
    )


def test_a_page_of_one_search(library: Library) -> None:
    page = str(search_page([library.search("<b>cats</b>", 10)], library))
    assert "Search: &quot;&lt;b&gt;cats&lt;/b&gt;&quot;" in page
    assert "&lt;i&gt;.png" in page
    assert "row &amp; 7" in page
    assert "<i>" not in page
    assert page.count("<article") == page.count("data:image/jpeg") == 5
    assert "rank 1 of 5" in page
    assert "64 x 48" in page
    assert "x.library, 5 pictures, by tiny-vit" in page
    assert str(library.folder.parent) not in page  # folders tell about whoever shares the page
    assert "a/one.png" in page  # two files of one name are told apart
    assert loads_nothing(page)


def test_a_page_of_several_searches(library: Library) -> None:
    found = library.search_each(["a cat", "a dog"], 2)
    page = str(search_page(found, library))
    assert "2 searches" in page
    assert page.count("<h2>") == 2
    assert page.count("<article") == 4


def test_a_page_for_a_phone_and_a_dark_screen(library: Library) -> None:
    page = str(search_page([library.search("a cat", 1)], library))
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_a_picture_without_facts_or_thumbnail(tmp_path: Path, library: Library) -> None:
    with Library.create(tmp_path / "y.library", library.clip) as bare:
        vectors = library.clip.encode_text(["x", "y"]).numpy()
        bare.store.upsert(["one", "two"], vectors[[0, 0]])
        page = str(search_page([bare.search("a cat", 5)], bare))
        assert "None" not in page
        assert page.count("no picture") == 2
        page = str(duplicates_page(bare.duplicates(), bare))
        assert "None" not in page
        assert "the same bytes" not in page


def test_a_page_of_duplicates(library: Library) -> None:
    groups = library.duplicates(0.9999)
    page = str(duplicates_page(groups, library))
    assert " of pictures that resemble each other" in page
    assert "keep" in page
    assert str(library.folder.parent) not in page
    assert loads_nothing(page)
    assert page.count("<article") == sum(1 + len(group.others) for group in groups)
    assert "the same bytes" in page


def test_a_large_group_is_cut(library: Library) -> None:
    (group,) = (one for one in library.duplicates(0.9999) if one.same)
    many = DuplicateGroup(group.keep, group.others[:1] * 1000, group.scores[:1] * 1000)
    page = str(duplicates_page([many], library))
    assert page.count("<article") == 51
    assert "and 1,000 more; the page shows 50 of them" in page
    assert "1 group of pictures" in page
