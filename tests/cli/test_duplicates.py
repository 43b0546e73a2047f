"""`ecliptic duplicates`: groups on the screen, as JSON, as paths to delete, as a page."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.library.photos import save_photo


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, model: str) -> Path:
    """A folder with a library of a.png, its copy with a hostile name, and another picture."""
    from ecliptic.library import Library

    folder = tmp_path_factory.mktemp("doubled")
    first = save_photo(folder / "photos" / "a.png", 0)
    shutil.copy(first, folder / "photos" / "a<script>\n2.png")
    os.utime(folder / "photos" / "a<script>\n2.png", (2_000_000_000, 2_000_000_000))
    save_photo(folder / "photos" / "b.png", 5, 80, 60)
    with Library.create(folder / "x.library", model) as library:
        assert library.add(folder / "photos").added == 3
    return folder


@pytest.fixture
def here(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(indexed)
    return indexed


def test_groups_are_tables_with_the_picture_to_keep_first(run: Any, here: Path) -> None:
    found = run("duplicates", "x.library", "--threshold", "1")
    assert found.exit_code == 0
    lines = [line.split() for line in found.stdout.splitlines()]
    assert lines[0] == ["cosine", "size", "picture"]
    assert lines[1] == ["keep", "40", "x", "36", "photos/a.png"]
    assert lines[2] == ["same", "40", "x", "36", r"photos/a<script>\n2.png"]
    assert found.stderr == "1 group, 1 picture beside those to keep\n"


def test_paths0_are_those_not_to_keep(run: Any, here: Path) -> None:
    found = run("duplicates", "x.library", "--threshold", "1", "--paths0")
    assert found.stdout_bytes == os.fsencode(here / "photos" / "a<script>\n2.png") + b"\0"


def test_json(run: Any, here: Path) -> None:
    (group,) = json.loads(run("duplicates", "x.library", "--threshold", "1", "--json").stdout)
    assert group["keep"]["name"] == "a.png"
    assert [row["name"] for row in group["others"]] == ["a<script>\n2.png"]
    assert group["scores"] == [1.0]


def test_the_page_shows_names_as_text(run: Any, here: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run("duplicates", "x.library", "--threshold", "1", "--page", page).exit_code == 0
    text = page.read_text()
    assert "<script" not in text
    assert "a&lt;script&gt;" in text
    assert "the same bytes" in text
    assert str(here) not in text
    assert "https://" not in text
    again = run("duplicates", "x.library", "--page", page)
    assert (again.exit_code, "--force" in again.stderr) == (1, True)
    assert run("duplicates", "x.library", "--page", page, "--force").exit_code == 0


def test_a_large_group_is_cut_on_the_screen(
    run: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.cli.duplicates._SHOWN", 1)
    for number in range(2):
        shutil.copy(here / "photos" / "a.png", here / f"copy{number}.png")
    from ecliptic.library import Library

    with Library.open("x.library") as library:
        library.add([here / f"copy{number}.png" for number in range(2)])
        found = run("duplicates", "x.library", "--threshold", "1")
        library.remove([str(here / f"copy{number}.png") for number in range(2)])
    assert "and 2 more pictures of this group" in found.stdout


def test_a_filter_and_no_groups(run: Any, here: Path) -> None:
    found = run("duplicates", "x.library", "--threshold", "1", "--where", "width > 50")
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr == "0 groups, 0 pictures beside those to keep\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--json", "--paths0"], 2, "take one"),
        (["--threshold", "1.5"], 2, "must be 1 or less"),
        (["--threshold", "0"], 2, "--threshold must be above 0"),
        (["--force"], 2, "--force does nothing without --page"),
        (["--where", "x > 3"], 1, "x"),
    ],
)
def test_what_is_refused(run: Any, here: Path, words: list[str], code: int, message: str) -> None:
    found = run("duplicates", "x.library", *words)
    assert found.exit_code == code, found.output
    assert message in " ".join(found.stderr.split())
    assert found.stdout == ""


def test_without_a_library(run: Any) -> None:
    found = run("duplicates")
    assert (found.exit_code, "there is no library" in found.stderr) == (1, True)


def test_paths0_leaves_out_what_is_not_safe_to_delete(
    run: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = save_photo(tmp_path / "p" / "a.png", 0)
    shutil.copy(first, tmp_path / "p" / "longer name.png")
    (tmp_path / "p" / "link.png").symlink_to(first)
    assert run("index", "p", "-o", "x.library", "-m", model).exit_code == 0
    words = ("duplicates", "x.library", "--threshold", "1", "--paths0")
    listed = run(*words)
    assert b"link.png" not in listed.stdout_bytes
    assert "one file" in listed.stderr
    kept = {"a.png", "longer name.png", "link.png"} - {
        Path(os.fsdecode(name)).name for name in listed.stdout_bytes.split(b"\0") if name
    }
    for name in kept:
        (tmp_path / "p" / name).unlink()
    assert run(*words).stdout_bytes == b""  # the one to keep is gone
