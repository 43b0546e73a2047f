"""Every kind of source gives an image; all else is refused by name before it is decoded."""

import contextlib
import io
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.errors import ConfigError, ImageError, ImageLimitError
from ecliptic.inputs import ImageLimits, ImageSpec, Preprocess, open_image, read_bytes
from ecliptic.inputs.decode import FORMATS
from ecliptic.inputs.quiet import quiet_pillow
from tests.inputs.drawn_images import (
    FIXTURES,
    encode,
    manifest,
    needs_shared,
    noise,
    one_bit_png,
    tiled_tiff,
    wide_webp,
)

ARRAY = noise(12, 17)
PNG = encode(Image.fromarray(ARRAY), "PNG")


def resident_bytes() -> int:
    if not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_every_kind_of_source_gives_the_same_image(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    lazy = Image.open(io.BytesIO(PNG))
    sources = (
        path,
        str(path),
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        io.BytesIO(PNG),
        lazy,
        ARRAY,
        ARRAY[::-1][::-1],
        torch.from_numpy(ARRAY).permute(2, 0, 1),
    )
    for source in sources:
        np.testing.assert_array_equal(np.asarray(open_image(source)), ARRAY)


@pytest.mark.parametrize(
    ("shape", "mode"), [((5, 7), "L"), ((5, 7, 1), "L"), ((5, 7, 3), "RGB"), ((5, 7, 4), "RGBA")]
)
def test_arrays_and_tensors_keep_their_channels(shape: tuple[int, ...], mode: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    tensor = torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1)
    for source in (array, tensor):
        image = open_image(source)
        assert (image.mode, image.size) == (mode, (7, 5))
        np.testing.assert_array_equal(np.asarray(image), array.squeeze())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((5, 0), np.uint8), "no pixels"),
        (np.zeros((5, 5, 2), np.uint8), r"expected an image of shape \(H, W\) or \(H, W, C\)"),
        (np.zeros(5, np.uint8), "expected an image of shape"),
        (np.zeros((2, 5, 5, 3), np.uint8), "expected an image of shape"),
        (np.zeros((5, 5, 3), np.uint16), "uint16.*divide by 257"),
        (np.zeros((5, 5, 3), np.float64), "float64"),
        (np.array(["a.png"]), "<U5"),
        (torch.zeros(5, 5, 3, dtype=torch.uint8), r"shape \(C, H, W\).*got \(5, 5, 3\)"),
        (torch.zeros(3, 5, 5, dtype=torch.int64), "int64"),
        (Image.new("RGB", (0, 5)), "no pixels"),
        ([1, 2], "list object is not an image; pass a path"),
        (None, "NoneType object is not an image"),
        (io.StringIO("text"), "binary mode"),
    ],
)
def test_other_objects_are_refused_with_what_is_expected(source: object, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        open_image(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    ["https://example.org/cat.jpg", "FILE:///etc/passwd", "data:image/png;base64,AAAA", "s3://b"],
)
def test_urls_are_never_fetched(url: str) -> None:
    with pytest.raises(ImageError, match="is a URL, and ecliptic downloads no images"):
        open_image(url)


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.png' cannot be read: No such file"):
        open_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        open_image(str(tmp_path))
    with pytest.raises(ImageError, match="it holds the character NUL"):
        open_image("a\0b.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match=r"is a pipe.*must be a regular file; read it yourself"):
        open_image(tmp_path / "pipe.png")  # and does not wait for a writer


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system of raw byte names")
def test_names_that_are_not_utf8_work_and_print(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(PNG)
    assert open_image(path).size == open_image(str(path)).size == (17, 12)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"caf\\udce9") as caught:
        open_image(path)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize(
    "data",
    [one_bit_png(50_000, 50_000), one_bit_png(12_000, 12_000), one_bit_png(30_001, 8),
     wide_webp(16_000, 11_000), wide_webp(16_383, 16_383)],
    ids=["bomb", "only warned of", "edge", "canvas", "canvas bomb"],
)  # fmt: skip
def test_b1_b2_bombs_are_refused_from_the_header_with_flat_memory(data: bytes) -> None:
    open_image(one_bit_png(64, 64, rows=64))
    before = resident_bytes()
    with pytest.raises(ImageLimitError, match=r"too large to decode|over the limit"):
        open_image(data)
    assert resident_bytes() - before < 8 * 2**20


def test_b1_a_tiff_with_tiles_far_larger_than_itself_is_refused() -> None:
    data = tiled_tiff(16, 16, 4096)
    before = resident_bytes()
    with pytest.raises(ImageLimitError, match=r"tiles of 16777216 pixels"):
        open_image(data)
    with pytest.raises(ImageLimitError, match=r"tiles of 16777216 pixels"):
        open_image(Image.open(io.BytesIO(data)))
    assert resident_bytes() - before < 8 * 2**20


def test_b1_ordinary_tiles_and_strips_are_read() -> None:
    for data in (tiled_tiff(16, 16, 512), tiled_tiff(40, 30, 0, rows=2**32 - 1)):
        assert not np.asarray(open_image(data)).any()


@pytest.mark.parametrize("value", [0, 0.5])
def test_b3_tiles_of_no_size_are_refused(value: float) -> None:
    image = Image.open(io.BytesIO(tiled_tiff(16, 16, 512)))
    image.tag_v2[322] = value  # type: ignore[attr-defined]
    with pytest.raises(ImageError, match="the size of its tiles"):
        open_image(image)


def test_b1_lazily_opened_bombs_are_refused_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = Image.open(io.BytesIO(one_bit_png(12_000, 12_000)))
    with pytest.raises(ImageLimitError, match="12000x12000"):
        open_image(lazy)


def test_limits_can_be_set_per_call(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(PNG)
    for source in (path, PNG, io.BytesIO(PNG)):
        with pytest.raises(ImageLimitError, match=r"limit of 99 bytes.*file_bytes"):
            read_bytes(source, ImageLimits(file_bytes=99))
    for source in (path, ARRAY, Image.fromarray(ARRAY)):
        with pytest.raises(ImageLimitError, match="17x12, over the limit of 100 pixels"):
            open_image(source, ImageLimits(pixels=100))
        with pytest.raises(ImageLimitError, match="16 along an edge"):
            open_image(source, ImageLimits(edge=16))
    with pytest.raises(ConfigError):
        ImageLimits(pixels=0)


@pytest.mark.parametrize("layout", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"])
def test_b3_files_cut_anywhere_are_refused(layout: str) -> None:
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    image = np.stack([np.broadcast_to(ramp, (80, 96)), noise(80, 96, 1), noise(80, 96, 1)], -1)
    whole = encode(Image.fromarray(image), layout)
    open_image(whole)
    for percent in range(0, 97, 3):
        with pytest.raises(ImageError):
            open_image(whole[: len(whole) * percent // 100])


@pytest.mark.parametrize("layout", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP"])
def test_b3_flipped_bytes_give_an_image_or_an_image_error(layout: str) -> None:
    whole = encode(Image.fromarray(noise(24, 24)), layout)
    places = np.random.default_rng(0).integers(0, len(whole), (150, 3))
    for spots in places:
        damaged = bytearray(whole)
        for spot in spots:
            damaged[spot] ^= 0xFF
        for mode in ("reference", "robust"):
            with contextlib.suppress(ImageError):  # anything else would fail the test
                Preprocess(ImageSpec(size=8), mode)(bytes(damaged))  # type: ignore[arg-type]


FOREIGN = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
    "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "html": b"<!doctype html><title>404</title>",
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x09\0\0\0\x09\0\x08\0\3" + bytes(60),
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "empty": b"",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_b4_other_formats_named_jpg_are_refused_without_a_process(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("os.system", started)
    path = tmp_path / "image.jpg"
    path.write_bytes(FOREIGN[kind])
    what = (
        "is not an image of an allowed format" if FOREIGN[kind] else "is empty, a file of 0 bytes"
    )
    with pytest.raises(ImageError, match=rf"image\.jpg' {what}"):
        open_image(path)


def test_the_allow_list_can_be_narrowed_widened_and_mistyped() -> None:
    tga = encode(Image.fromarray(ARRAY), "TGA")
    with pytest.raises(ImageError, match="allowed format"):
        open_image(tga)
    assert open_image(tga, ImageLimits(formats=(*FORMATS, "TGA"))).size == (17, 12)
    with pytest.raises(ImageError, match=r"\(JPEG\)"):
        open_image(PNG, ImageLimits(formats=("JPEG",)))
    with pytest.raises(ConfigError, match="unknown image format JPG; Pillow knows"):
        open_image(PNG, ImageLimits(formats=("JPG",)))


@pytest.mark.parametrize("layout", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_b8_animations_give_their_first_frame(layout: str) -> None:
    red, blue = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    data = encode(red, layout, save_all=True, append_images=[blue, red, blue])
    r, g, b = Preprocess(ImageSpec(size=8), "robust").rgb(data)[4, 4]
    assert r > 240  # AVIF and WebP are lossy
    assert max(g, b) < 15


def test_b8_ten_thousand_frames_cost_one() -> None:
    opening = encode(Image.new("P", (32, 32), 1), "GIF")
    frame = opening[opening.index(b"\x2c") : -1]
    data = opening[:-1] + frame * 9_999 + b"\x3b"
    with Image.open(io.BytesIO(data)) as image:
        image.seek(50)  # the file is a real animation
    before = resident_bytes()
    assert open_image(data).size == (32, 32)
    assert resident_bytes() - before < 8 * 2**20


def test_b8_stated_frames_are_limited() -> None:
    red, blue = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    data = encode(red, "PNG", save_all=True, append_images=[blue, red])
    with pytest.raises(ImageLimitError, match="3 frames, over the limit of 2"):
        open_image(data, ImageLimits(frames=2))


def test_b10_a_polyglot_is_only_ever_its_image() -> None:
    jpeg = encode(Image.fromarray(ARRAY), "JPEG")
    page = b"<script>alert(1)</script>PK\x03\x04" + bytes(30)
    image = open_image(jpeg + page)
    assert image.format == "JPEG"
    np.testing.assert_array_equal(np.asarray(image), np.asarray(open_image(jpeg)))
    with pytest.raises(ImageError):
        open_image(page + jpeg)


@needs_shared
@pytest.mark.parametrize("row", manifest(), ids=lambda row: row["file"])
def test_fixtures_work_in_both_modes_or_are_refused_by_name(row: dict[str, str]) -> None:
    path = FIXTURES / row["file"]
    allowed = row["format"] in (*FORMATS, "MPO") and row["load"] == "ok"
    for prepare in (Preprocess(ImageSpec()), Preprocess(ImageSpec(), "robust", icc="srgb")):
        if allowed:
            assert np.isfinite(prepare(path)).all()
        else:
            with pytest.raises(ImageError, match=path.name.replace(".", r"\.")):
                prepare(path)


def test_pillows_warnings_about_metadata_stay_inside() -> None:
    bad_exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\x0f\0\0\x40\0\0\0"
    damaged = encode(Image.fromarray(ARRAY), "JPEG", exif=bad_exif)
    with pytest.raises(UserWarning), Image.open(io.BytesIO(damaged)) as image:
        image.getexif().get(1)  # Pillow does warn, and warnings are errors here
    Preprocess(ImageSpec(size=8), "robust")(damaged)


def test_only_pillow_and_only_the_decoding_thread_is_quiet() -> None:
    def warn(module: str) -> None:
        warnings.warn_explicit("odd metadata", UserWarning, "file.py", 1, module=module)

    with quiet_pillow():
        warn("PIL.TiffImagePlugin")
        with pytest.raises(UserWarning):
            warn("mine")
        with ThreadPoolExecutor(1) as beside, pytest.raises(UserWarning):
            beside.submit(warn, "PIL.TiffImagePlugin").result()
    with pytest.raises(UserWarning):
        warn("PIL.TiffImagePlugin")
