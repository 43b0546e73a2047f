"""The contact sheet is one file with all pictures inside, in order, whatever their names are."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from ecliptic.report.contact_sheet import NO_PICTURE, Tile, contact_sheet, shorten_names
from ecliptic.report.questions import Picture
from ecliptic.report.style import read_style


def tiles(folder: Path) -> list[Tile]:
    picture = Image.new("RGB", (300, 200), "green")
    picture.save(folder / "green.png")
    return [
        Tile(str(folder / "green.png"), "green.png", ["from a file"], "5.83"),
        Tile((folder / "green.png").read_bytes(), "<b>bytes</b>"),
        Tile(np.zeros((20, 30, 3), np.uint8), "an array"),
        Tile(None, "a stored vector"),
        Tile(str(folder / "gone.png"), "gone.png"),
    ]


def test_all_tiles_are_inside_the_page_in_order(tmp_path: Path) -> None:
    page = contact_sheet("Best of", "Five tiles.", tiles(tmp_path))
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    assert titles == [
        "green.png", "&lt;b&gt;bytes&lt;/b&gt;", "an array", "a stored vector", "gone.png",
    ]  # fmt: skip
    assert page.count('src="data:image/jpeg;base64,') == 3
    assert page.count(NO_PICTURE) == page.count("cannot be read any more") == 1
    assert '<p class="badge">5.83</p>' in page
    assert "<li>from a file</li>" in page


def test_a_picture_is_shown_with_its_edges_and_upright(tmp_path: Path) -> None:
    wide = Image.new("RGBA", (600, 200), "white")
    wide.paste("red", (0, 0, 20, 200))
    wide.paste("blue", (580, 0, 600, 200))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn it clockwise
    wide.convert("RGB").save(tmp_path / "tall.jpg", exif=exif)
    for source, size in ((wide, (192, 64)), (str(tmp_path / "tall.jpg"), (64, 192))):
        small = Image.open(io.BytesIO(Picture("x", source).whole))
        assert small.size == size
        first, last = small.getpixel((2, 2)), small.getpixel((size[0] - 3, size[1] - 3))
        assert isinstance(first, tuple)
        assert isinstance(last, tuple)
        assert (first[0] > 200 > first[2], last[2] > 200 > last[0]) == (True, True)
    assert wide.size == (600, 200), "the given image is not changed"
    strip = Image.open(io.BytesIO(Picture("x", Image.new("L", (3000, 1))).whole))
    assert strip.size == (192, 1)


def test_the_page_loads_nothing_and_is_dark_where_the_reader_is(tmp_path: Path) -> None:
    page = contact_sheet("Best of", "Five tiles.", tiles(tmp_path))
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script', page)
    assert "default-src &#x27;none&#x27;" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    known = set(re.findall(r"--(\w+): ", read_style()))
    assert set(re.findall(r"var\(--(\w+)\)", page)) <= known


def test_sections_stand_below_and_empty_ones_are_left_out() -> None:
    one, other = Tile(None, "one"), Tile(None, "other")
    page = contact_sheet("T", "L", [one], [("Worst", [other]), ("Nothing", [])])
    assert page.index("one") < page.index("<h2>Worst</h2>") < page.index("<h3>other</h3>")
    assert "Nothing" not in page
    assert 'class="sheet"' not in contact_sheet("T", "L", [])


def test_equal_names_are_told_apart_by_as_few_folders_as_possible() -> None:
    names = [
        "/my/a/x/1.png",
        "/my/b/x/1.png",
        "/my/a/2.png",
        "3.png",
        "c/3.png",
        "c/3.png",
        "a text",
    ]
    assert list(shorten_names(names).values()) == [
        "a/x/1.png", "b/x/1.png", "2.png", "3.png", "c/3.png", "a text",
    ]  # fmt: skip
    assert shorten_names(["a//1.png", "a/1.png"]) == {"a//1.png": "a/1.png", "a/1.png": "a/1.png"}
