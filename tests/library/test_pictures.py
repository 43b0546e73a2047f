"""Thumbnails and facts of a picture: small, upright, without metadata; width, time and camera."""

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ecliptic.engine import Clip, image_item
from ecliptic.inputs import ImageSpec, Preprocess
from ecliptic.library import Library
from ecliptic.library.filling.pictures import find_file
from ecliptic.library.filling.thumbnails import LARGEST_THUMBNAIL, make_thumbnail
from tests.engine.models import draw
from tests.library.photos import rows_of, stored_thumbnails

MAKE, MODEL, TIME, EXIF = 271, 272, 306, 0x8769
TAKEN, ZONE, OTHER_ZONE = 36867, 36881, 36880


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def opened(data: bytes) -> Image.Image:
    assert 0 < len(data) <= LARGEST_THUMBNAIL
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == "JPEG"
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((4000, 3000), (160, 120)),
        ((1, 20_000), (1, 160)),
        ((20_000, 1), (160, 1)),
        ((1, 1), (1, 1)),
        ((30, 20), (30, 20)),
    ],
)
def test_a_thumbnail_is_small_for_the_worst_picture(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert opened(make_thumbnail(noise(*size))).size == expected


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_a_thumbnail_of_every_mode(mode: str) -> None:
    image = draw(0, 400, 300).convert("LAB") if mode == "LAB" else draw(0, 400, 300)
    if mode == "PA":
        image = image.convert("RGBA").quantize().convert("PA")
    elif mode != "LAB":
        image = image.convert(mode)
    assert opened(make_thumbnail(image)).size == (160, 120)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_thumbnail_of_deep_values(mode: str) -> None:
    values = np.linspace(0, 60_000, 300 * 200).reshape(200, 300)
    types: dict[str, Any] = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    shown = np.asarray(opened(make_thumbnail(Image.fromarray(values.astype(types[mode])))))
    assert shown[0].mean() < 40
    assert shown[-1].mean() > 200


def test_what_is_transparent_becomes_white() -> None:
    clear = Image.new("RGBA", (300, 300), (255, 0, 0, 0))
    assert np.asarray(opened(make_thumbnail(clear))).min() > 250


def test_a_thumbnail_holds_no_metadata() -> None:
    exif = Image.Exif()
    exif[MODEL] = "SecretCamera"
    out = io.BytesIO()
    options = {"comment": b"SECRET" * 9000, "icc_profile": b"SECRET" * 2000, "dpi": (300, 300)}
    draw(0, 400, 300).save(out, "JPEG", exif=exif, **options)
    data = make_thumbnail(Image.open(io.BytesIO(out.getvalue())))
    opened(data)
    assert b"Secret" not in data
    assert b"SECRET" not in data


@pytest.mark.parametrize("orientation", range(9))
def test_a_thumbnail_stands_upright(shared: Path, orientation: int) -> None:
    fixture = shared / "fixtures" / "exif" / f"Landscape_{orientation}.jpg"
    if not fixture.is_file():
        pytest.skip("needs the photographs in shared/fixtures/exif")
    with Image.open(fixture.with_name("Landscape_1.jpg")) as straight:
        expected = opened(make_thumbnail(straight))
    with Image.open(fixture) as image:
        found = opened(make_thumbnail(image))
    assert found.size == expected.size
    difference = np.asarray(found).astype(int) - np.asarray(expected)
    assert np.abs(difference).mean() < 12  # the number in the picture differs


def save_tags(path: Path, tags: dict[int, Any], inside: dict[int, Any]) -> None:
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(EXIF).update(inside)
    draw(len(path.name), 48, 32).save(path, exif=exif)


@pytest.mark.parametrize(
    ("tags", "inside", "taken"),
    [
        ({}, {TAKEN: "2024:05:01 12:30:00"}, "2024-05-01 12:30:00"),
        ({}, {TAKEN: "2024:05:01 12:30:00", ZONE: "+02:00"}, "2024-05-01 10:30:00"),
        ({}, {TAKEN: "2024:05:01 12:30:00\0", ZONE: "nonsense"}, "2024-05-01 12:30:00"),
        ({TIME: "2023:01:02 03:04:05"}, {OTHER_ZONE: "-01:00"}, "2023-01-02 04:04:05"),
        ({TIME: "2023:01:02 03:04:05"}, {ZONE: "-01:00"}, "2023-01-02 03:04:05"),
        ({TIME: "2023:01:02 03:04:05"}, {TAKEN: "0000:00:00 00:00:00"}, "2023-01-02 03:04:05"),
        ({}, {TAKEN: "0001:01:01 00:00:00", ZONE: "+10:00"}, "0001-01-01 00:00:00"),
        ({}, {TAKEN: "    :  :     :  :  "}, None),
        ({}, {TAKEN: "x" * 70}, None),
        ({}, {}, None),
    ],
)
def test_when_a_photograph_was_taken(
    library: Library,
    tmp_path: Path,
    tags: dict[int, Any],
    inside: dict[int, Any],
    taken: str | None,
) -> None:
    save_tags(tmp_path / "photo.jpg", tags, inside)
    library.add(tmp_path / "photo.jpg")
    (row,) = rows_of(library).values()
    assert row["taken"] == (datetime.fromisoformat(taken) if taken else None)


@pytest.mark.parametrize(
    ("make", "name", "camera"),
    [
        ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
        ("NIKON CORPORATION", "NIKON D90", "NIKON CORPORATION NIKON D90"),
        ("Fairphone", "FP4\0\0", "Fairphone FP4"),
        ("", "Only a model", "Only a model"),
        ("M" * 500, "", "M" * 200),
        ("", "", None),
    ],
)
def test_the_camera(
    library: Library, tmp_path: Path, make: str, name: str, camera: str | None
) -> None:
    save_tags(tmp_path / "photo.jpg", {MAKE: make, MODEL: name}, {})
    library.add(tmp_path / "photo.jpg")
    (row,) = rows_of(library).values()
    assert row["camera"] == camera


def test_width_height_format_and_damaged_metadata(library: Library, tmp_path: Path) -> None:
    draw(1, 48, 32).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    draw(2, 30, 20).save(tmp_path / "b.png")
    draw(3, 33, 22).save(tmp_path / "c.webp")
    assert library.add(tmp_path.glob("?.*")).added == 3
    rows = {row["name"]: row for row in rows_of(library).values()}
    facts = [(row["width"], row["height"], row["format"]) for _, row in sorted(rows.items())]
    assert facts == [(48, 32, "jpeg"), (30, 20, "png"), (33, 22, "webp")]
    assert rows["a.jpg"]["taken"] is None
    small = stored_thumbnails(library, [row["content"] for row in rows.values()])
    assert sorted(opened(data).size for data in small.values()) == [(30, 20), (33, 22), (48, 32)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_width_and_height_are_those_of_the_upright_picture(
    tmp_path: Path, clip: Clip, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation  # EXIF 2.32, table 4
    path = tmp_path / "a.jpg"
    draw(0, 60, 20).save(path, exif=exif)
    picture = find_file(image_item(str(path))).read(clip.preprocessor)
    picture.prepare(clip.preprocessor)
    upright = (20, 60) if orientation >= 5 else (60, 20)
    assert (picture.facts["width"], picture.facts["height"]) == upright
    assert Image.open(io.BytesIO(picture.thumbnail)).size == upright


@pytest.mark.parametrize("orientation", [1, 6])
def test_facts_and_thumbnail_are_of_the_file_where_it_is_decoded_smaller(
    tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise(1601, 1203).save(tmp_path / "a.jpg", exif=exif)
    item = image_item(str(tmp_path / "a.jpg"))
    facts, sizes = [], []
    for pixels in ("exact", "fast"):
        prepare = Preprocess(ImageSpec(size=16), "robust", pixels=pixels)  # type: ignore[arg-type]
        picture = find_file(item).read(prepare)
        picture.prepare(prepare)
        facts.append((picture.facts["width"], picture.facts["height"]))
        sizes.append(opened(picture.thumbnail).size)
    assert facts == [(1601, 1203) if orientation == 1 else (1203, 1601)] * 2
    assert sizes == [(160, 120) if orientation == 1 else (120, 160)] * 2
