"""The demo with images of the user: folders and tables, large sets, bad files, hostile names."""

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, Columns, Item, load, read_items
from ecliptic.errors import InputError
from ecliptic.report import DemoResult, Picture, demo
from ecliptic.report.showcase.page import page
from ecliptic.report.showcase.sampling import sample
from ecliptic.report.showcase.sections import CARDS
from tests import tiny
from tests.report.test_demonstration import Reader

TEXTS = ["a cat", "a dog", "a house by the sea"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), folder, layout="ecliptic")
    return load(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images in a folder and its subfolder, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for seed in range(30):
        noise = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / ("more" if seed % 2 else "") / f"{seed:02}.jpg")
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def result(clip: Clip, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    out = tmp_path_factory.mktemp("out") / "own.html"
    items = read_items(str(photos), Columns())
    return demo(out, clip, images=items, queries=TEXTS, quiet=True)


def words(result: DemoResult) -> str:
    return "".join(Reader(page(result)).words)


def test_every_usable_image_is_searched_and_labelled(result: DemoResult, clip: Clip) -> None:
    assert len(result.scope.pictures) == len(result.answers.guesses) == 30
    assert [search.query for search in result.answers.searches] == TEXTS, (
        "in the order they were asked"
    )
    paths = [picture.source for picture in result.scope.pictures]
    cosines = clip.similarity(TEXTS, paths)
    for search, row in zip(result.answers.searches, cosines, strict=True):
        assert search.hits[0].picture == result.scope.pictures[int(row.argmax())]
        assert search.hits[0].fits is None
    assert result.answers.matrix.rows == tuple(TEXTS)
    assert len(set(result.answers.matrix.columns)) == len(TEXTS)


def test_nothing_is_called_right_or_wrong_if_nobody_knows(result: DemoResult) -> None:
    text = words(result)
    assert "drawn at random" not in text
    assert "correct" not in text
    assert "wrong, this is" not in text
    assert "FxEmojis" not in text, "the credit of drawings that are not shown"


def test_the_page_shows_file_names_without_the_folders_around_them(
    result: DemoResult, photos: Path
) -> None:
    usable = page(dataclasses.replace(result, scope=dataclasses.replace(result.scope, rejects=())))
    assert 'alt="00.jpg"' in usable
    assert str(photos) not in usable


def test_images_that_cannot_be_used_are_listed_on_the_page(result: DemoResult) -> None:
    (reject,) = result.scope.rejects
    assert reject.source.endswith("broken.jpg")
    assert "1 image could not be used" in words(result)
    assert reject.reason in words(result)


def test_the_page_holds_some_cards_and_says_of_how_many(result: DemoResult) -> None:
    text = page(result)
    assert text.count('class="guess"') == CARDS
    assert f"Shown are {CARDS} of 30 images" in text
    first = [guess.labels[0][0] for guess in result.answers.guesses[:CARDS]]
    assert len(set(first)) == len({guess.labels[0][0] for guess in result.answers.guesses})


def test_a_large_set_is_sampled_and_the_page_says_so(
    clip: Clip, photos: Path, tmp_path: Path
) -> None:
    paths = sorted(photos.rglob("[0-9]*.jpg"))
    some = demo(tmp_path / "a.html", clip, images=paths, queries=TEXTS, limit=7, quiet=True)
    assert len(some.scope.pictures) == 7
    assert "It was run on 7 images, drawn at random from 30." in words(some)
    again = demo(tmp_path / "b.html", clip, images=paths, queries=TEXTS, limit=7, quiet=True)
    assert some.scope.pictures == again.scope.pictures


def test_a_sample_keeps_the_order_and_treats_every_item_alike() -> None:
    assert sample(range(5), 10) == ([0, 1, 2, 3, 4], 5)
    assert sample([], 3) == ([], 0)
    counts = np.zeros(4)
    for start in range(400):
        chosen, count = sample(iter(range(start, start + 5000)), 100)
        assert (len(chosen), count) == (100, 5000)
        assert chosen == sorted(set(chosen))
        counts += np.histogram(np.array(chosen) - start, bins=4, range=(0, 5000))[0]
        if start == 1:
            break
    assert counts.min() > 25  # of 50 in each quarter


@pytest.mark.parametrize(("images", "texts"), [(1, 3), (2, 1), (5, 1), (3, 12)])
def test_few_images_and_few_or_many_texts_make_a_page(
    clip: Clip, photos: Path, tmp_path: Path, images: int, texts: int
) -> None:
    paths = sorted(photos.glob("0*.jpg"))[:images]
    queries = [f"text {number}" for number in range(texts)]
    found = demo(tmp_path / "few.html", clip, images=paths, queries=queries, quiet=True)
    assert len(found.answers.searches) == texts
    assert all(len(search.hits) <= min(4, images) for search in found.answers.searches)
    assert bool(found.answers.guesses) == (texts > 1), "one label would always have 100 %"
    assert bool(found.answers.neighbours) == (images > 1)
    assert len(found.answers.matrix.columns) == min(texts, images, 10)
    assert len(found.answers.matrix.cosines) == len(found.answers.matrix.rows) == min(texts, 10)


def test_without_a_usable_image_there_is_an_error_and_no_page(clip: Clip, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    failed = Item("row 2", "", InputError("nothing usable in column 'file'."))
    with pytest.raises(InputError, match=r"none of the 2 images.*bad\.png"):
        demo(tmp_path / "demo.html", clip, images=[bad, failed], quiet=True)
    with pytest.raises(InputError, match="no images"):
        demo(tmp_path / "demo.html", clip, images=[], quiet=True)
    with pytest.raises(InputError, match="at least one text"):
        demo(tmp_path / "demo.html", clip, images=[bad], queries=[" "], quiet=True)
    with pytest.raises(InputError, match="pass images too"):
        demo(tmp_path / "demo.html", clip, queries=["a cat"], quiet=True)
    assert not (tmp_path / "demo.html").exists()


def test_the_general_texts_are_used_if_none_are_given(
    clip: Clip, photos: Path, tmp_path: Path
) -> None:
    some = demo(tmp_path / "demo.html", clip, images=sorted(photos.glob("0*.jpg")), quiet=True)
    assert "people" in [search.query for search in some.answers.searches]


def test_hostile_names_and_texts_stay_text(
    clip: Clip, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "<script>[/b]\x1b[m"
    photo = str(min(photos.glob("0*.jpg")))
    items = [Item(hostile, photo), Item(hostile, "", InputError(hostile))]
    some = demo(tmp_path / "demo.html", clip, images=items, queries=[hostile, "b"])
    reader = Reader(some.path.read_text(encoding="utf-8"))
    assert "script" not in reader.tags
    assert all(source.startswith("data:image/") for source in reader.sources)
    said = capsys.readouterr().err
    assert "[/b]" in said
    assert "\x1b" not in said


def thumbnail(source: str | bytes) -> Image.Image:
    return Image.open(io.BytesIO(Picture("x", source).thumbnail))


def test_thumbnails_are_small_upright_and_tell_no_place(tmp_path: Path) -> None:
    image = Image.new("RGB", (2000, 1000), "red")
    image.paste("blue", (0, 0, 1000, 1000))  # the left half, which is the top once upright
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn it clockwise
    exif[0x9286] = "51.5 N, 0.1 W"
    image.save(tmp_path / "photo.jpg", exif=exif)
    for source in (str(tmp_path / "photo.jpg"), (tmp_path / "photo.jpg").read_bytes()):
        small = thumbnail(source)
        assert small.size == (192, 192)
        assert not small.getexif()
        assert len(Picture("x", source).thumbnail) < 10_000
        top, bottom = small.getpixel((96, 10)), small.getpixel((96, 180))
        assert isinstance(top, tuple)
        assert isinstance(bottom, tuple)
        assert (top[2] > 200, bottom[0] > 200) == (True, True)


def test_a_long_strip_has_a_thumbnail_too(tmp_path: Path) -> None:
    Image.new("RGB", (3, 20_000), "green").save(tmp_path / "strip.png")
    assert thumbnail(str(tmp_path / "strip.png")).size == (192, 192)


def test_photos_are_in_the_page_as_small_jpegs(result: DemoResult) -> None:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page(result))
    assert len(found) >= CARDS
    for data in found[:3]:
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (192, 192)
