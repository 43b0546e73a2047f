"""`pixels`: "exact" keeps every bit, "close" is within one level, "fast" has its stated error."""

import io
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageDraw, ImageFont

from ecliptic.errors import ConfigError, ImageError, ImageLimitError
from ecliptic.inputs import (
    Exactness,
    ImageLimits,
    ImageSpec,
    Preprocess,
    PreprocessMode,
    decode,
    image as image_module,
    resizing,
)
from ecliptic.inputs.image import ERRORS, LOOKED_AT
from ecliptic.inputs.resizing import FILTERS, can_be_close, is_worthwhile, shrink_exactly
from tests.inputs.drawn_images import FIXTURES, encode, needs_shared, noise

SPEC = ImageSpec(size=64)
WORSE: tuple[Exactness, ...] = ("close", "fast")
MODES = ("RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16")
_shapes = st.tuples(st.integers(40, 900), st.integers(40, 900))
_kinds = st.sampled_from(["noise", "black and white", "stripes", "smooth"])
_specs = st.builds(
    ImageSpec,
    size=st.integers(1, 90),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    resize=st.sampled_from(["shortest", "squash"]),
)


def draw_kind(kind: str, width: int, height: int) -> np.ndarray:
    values = noise(height, width, 3, seed=width * height)
    if kind == "black and white":
        return (values > 127).astype(np.uint8) * 255
    if kind == "stripes":
        values[:] = 127
        values[:, ::2] += 1  # sums at the boundary between two levels
        return values
    if kind == "smooth":
        small = Image.fromarray(values[: height // 16 + 1, : width // 16 + 1])
        return np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    return values


def draw_page(side: int) -> np.ndarray:
    """(side, side, 3): black lines of text on white."""
    page = Image.new("RGB", (side, side), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for top in range(0, side, 14):
        draw.text((0, top), "the quick brown fox 0123456789 " * 10, fill="black", font=font)
    return np.asarray(page)


def draw_squares(height: int, width: int) -> np.ndarray:
    """(1600, 1600, 3): black and white fields; stripes where `height` is the whole side."""
    fields = np.add.outer(np.arange(1600) // height, np.arange(1600) // width) % 2
    return np.repeat((fields * 255).astype(np.uint8)[..., None], 3, axis=2)


def smooth(width: int, height: int) -> Image.Image:
    return Image.fromarray(draw_kind("smooth", width, height))


def pillow_pixels(image: Image.Image, prepare: Preprocess) -> np.ndarray:
    """Resized and cropped by Pillow alone, whatever the size."""
    cut = prepare._cut(image.size)
    whole = image.resize((cut.width, cut.height), FILTERS[prepare.spec.interpolation])
    box = (cut.left, cut.top, cut.left + cut.size, cut.top + cut.size)
    return np.asarray(whole.crop(box).convert("RGB"))


@pytest.fixture
def without_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    decode.find_jpeg_decoder.cache_clear()
    yield
    decode.find_jpeg_decoder.cache_clear()


@settings(max_examples=80, deadline=None)
@given(shape=_shapes, kind=_kinds, spec=_specs)
def test_the_quicker_shrinking_keeps_every_bit(
    shape: tuple[int, int], kind: str, spec: ImageSpec
) -> None:
    prepare, values = Preprocess(spec), draw_kind(kind, *shape)
    cut, image = prepare._cut(shape), Image.fromarray(values)
    if not can_be_close(values, cut, spec.interpolation):
        return
    wanted = pillow_pixels(image, prepare)
    np.testing.assert_array_equal(shrink_exactly(values, cut, spec.interpolation), wanted)


@pytest.mark.parametrize(
    ("size", "worthwhile"),
    [((2400, 1600), True), ((1600, 2400), True), ((1100, 2300), False), ((900, 700), False)],
    ids=["lying", "standing", "tall", "small"],
)
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_large_images_have_the_bits_of_pillow(
    size: tuple[int, int], worthwhile: bool, kind: str
) -> None:
    prepare, image = Preprocess(ImageSpec()), Image.fromarray(draw_kind(kind, *size))
    assert is_worthwhile(np.asarray(image), prepare._cut(size), "bicubic") is worthwhile
    wanted = pillow_pixels(image, prepare)
    np.testing.assert_array_equal(prepare.rgb(image), wanted)
    np.testing.assert_array_equal(prepare.rgb(encode(image, "PNG", compress_level=0)), wanted)
    jpeg = encode(image, "JPEG")
    with Image.open(io.BytesIO(jpeg)) as opened:
        np.testing.assert_array_equal(prepare.rgb(jpeg), pillow_pixels(opened, prepare))


def test_a_pillow_that_resizes_in_another_way_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = Preprocess(ImageSpec(size=50))._cut((801, 603))
    values = np.empty((603, 801, 3), np.uint8)
    assert can_be_close(values, cut, "bilinear")
    resizing._is_as_in_pillow.cache_clear()
    monkeypatch.setitem(FILTERS, "bilinear", Image.Resampling.HAMMING)
    assert not can_be_close(values, cut, "bilinear")
    resizing._is_as_in_pillow.cache_clear()


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    kind=_kinds,
    spec=_specs,
    layout=st.sampled_from(MODES),
    mode=st.sampled_from(["reference", "robust"]),
    pixels=st.sampled_from(WORSE),
)
def test_close_is_within_one_level_in_any_mode_and_shape(
    shape: tuple[int, int],
    kind: str,
    spec: ImageSpec,
    layout: str,
    mode: PreprocessMode,
    pixels: Exactness,
) -> None:
    rgb = Image.fromarray(draw_kind(kind, *shape))
    if layout == "I;16":
        image = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    else:
        image = rgb.convert("RGBA" if layout == "LA" else layout).convert(layout)
    if max(Preprocess(spec)._cut(shape).width, Preprocess(spec)._cut(shape).height) > 5000:
        return  # a strip that grows
    exact = Preprocess(spec, mode).rgb(image).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module, "CLOSE_WORTHWHILE", 0)
        near = Preprocess(spec, mode, pixels=pixels).rgb(image)
    assert np.abs(exact - near).max() <= 1


def test_close_leaves_small_images_to_pillow_unless_they_are_jpegs() -> None:
    def differ(source: Any) -> float:
        exact, close = (Preprocess(SPEC, pixels=p).rgb(source) for p in ("exact", "close"))
        return float((exact != close).mean())

    small, large = (Image.fromarray(noise(height, 800)) for height in (624, 625))
    assert differ(small) == 0
    assert differ(encode(small, "PNG", compress_level=0)) == 0
    assert 0 < differ(encode(small, "JPEG")) < 0.1
    assert 0 < differ(large) < 0.1


@pytest.mark.usefixtures("without_simplejpeg")
def test_close_has_the_same_bits_without_simplejpeg() -> None:
    data = encode(Image.fromarray(noise(500, 601)), "JPEG")
    without = Preprocess(SPEC, pixels="close").rgb(data)
    sys.modules.pop("simplejpeg")
    decoder()
    np.testing.assert_array_equal(Preprocess(SPEC, pixels="close").rgb(data), without)


def test_pillow_is_asked_once_and_not_for_each_size() -> None:
    resizing._is_as_in_pillow.cache_clear()
    for more in range(3):
        Preprocess(SPEC, pixels="close").rgb(encode(smooth(300 + more, 200 + more), "JPEG"))
    assert resizing._is_as_in_pillow.cache_info().misses == 1


@needs_shared
def test_fast_has_the_error_that_it_states_on_photographs() -> None:
    assert ERRORS["fast"].startswith("mean 0.7 levels on photographs, at most 1.4 on one; ")
    errors = []
    for path in sorted(FIXTURES.glob("photos/*")):
        if path.suffix not in (".png", ".jpg", ".mpo"):
            continue
        data = path.read_bytes()
        if path.suffix == ".png":
            with Image.open(path) as image:
                data = encode(image.convert("RGB"), "JPEG", quality=92)
        exact = Preprocess(SPEC).rgb(data).astype(int)
        errors.append(np.abs(exact - Preprocess(SPEC, pixels="fast").rgb(data)).mean())
    assert len(errors) >= 20
    assert 0.1 < np.mean(errors) <= 0.7
    assert max(errors) <= 1.4


@pytest.mark.parametrize(
    ("values", "close", "low", "high", "largest"),
    [
        (draw_page(672), 0.01, 5, 8, 45),
        (draw_page(1600), 0.01, 3, 8, 45),
        (draw_squares(3, 3), 0.11, 0.5, 8, 45),
        (draw_squares(7, 7), 0.11, 3, 8, 45),
        (draw_squares(1600, 3)[:1344, :1344], 0.01, 20, 36, 36),
    ],
    ids=["small page", "page", "fine squares", "squares", "stripes"],
)
def test_pages_of_text_and_fine_patterns_have_the_error_that_is_stated(
    values: np.ndarray, close: float, low: float, high: float, largest: int
) -> None:
    assert ERRORS["fast"].endswith("; up to 8 on pages of text, 36 on fine stripes")
    data = encode(Image.fromarray(values), "JPEG", quality=95, subsampling=0)
    exact = Preprocess(ImageSpec()).rgb(data).astype(int)
    near = np.abs(exact - Preprocess(ImageSpec(), pixels="close").rgb(data))
    assert near.max() <= 1
    assert near.mean() <= close
    reduced = np.abs(exact - Preprocess(ImageSpec(), pixels="fast").rgb(data))
    assert low < reduced.mean() <= high
    assert reduced.max() <= largest


@pytest.mark.parametrize("layout", ["PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_fast_is_close_where_a_format_has_no_smaller_decoding(layout: str) -> None:
    data = encode(smooth(500, 400), layout)
    fast, close = (Preprocess(SPEC, "robust", pixels=p).rgb(data) for p in ("fast", "close"))
    np.testing.assert_array_equal(fast, close)


def test_fast_is_close_for_small_jpegs_and_opened_images() -> None:
    small = encode(smooth(2 * 64 + 20, 2 * 64 + 10), "JPEG")  # half of it would be too small
    large = encode(smooth(900, 700), "JPEG")
    opened = Image.open(io.BytesIO(large))
    for source in (small, opened):
        fast, close = (Preprocess(SPEC, pixels=p).rgb(source) for p in ("fast", "close"))
        np.testing.assert_array_equal(fast, close)
    assert opened.size == (900, 700)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", ["exact", *WORSE])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_turned_jpegs_are_upright(orientation: int, pixels: Exactness, resize: Any) -> None:
    """With sizes that 8 does not divide: the last column of a smaller decoding is partial."""
    ramp = np.add.outer(np.arange(611) * 0.25, np.arange(843) * 0.1)
    rgb = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=-1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(rgb), "JPEG", quality=95, exif=exif)
    spec = ImageSpec(size=48, resize=resize)
    with Image.open(io.BytesIO(data)) as image:
        wanted = Preprocess(spec, "robust").rgb(image).astype(int)
    found = Preprocess(spec, "robust", pixels=pixels).rgb(data)
    assert np.abs(wanted - found).max() <= {"exact": 0, "close": 1, "fast": 2}[pixels]


def test_fast_shows_a_look_the_size_of_the_file_and_enough_pixels() -> None:
    seen: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def look(image: Image.Image, size: tuple[int, int]) -> None:
        seen.append((image.size, size))

    data = encode(smooth(2004, 1500), "JPEG")
    for pixels in ("exact", "close", "fast"):
        Preprocess(ImageSpec(size=16), pixels=pixels)(data, look=look)
    assert seen == [((2004, 1500), (2004, 1500))] * 2 + [((501, 375), (2004, 1500))]
    assert max(seen[-1][0]) >= LOOKED_AT
    assert Preprocess(ImageSpec(size=16), pixels="fast").load(data).size == (2004, 1500)


def test_pixels_are_part_of_the_fingerprint_with_their_error() -> None:
    assert Preprocess(SPEC).fingerprint_fields() == {"preprocess": "reference"}
    fields = [Preprocess(SPEC, pixels=pixels).fingerprint_fields() for pixels in WORSE]
    assert fields[0] == {
        "preprocess": "reference",
        "pixels": "close",
        "error": "at most 1 level",
    }
    assert fields[1]["error"].startswith("mean 0.7 levels")
    robust = Preprocess(SPEC, "robust", pixels="fast").fingerprint_fields()
    assert (robust["preprocess"], robust["pixels"]) == ("robust", "fast")


def test_unknown_pixels_are_refused() -> None:
    with pytest.raises(ConfigError, match="pixels must be 'exact', 'close' or 'fast', not 'best'"):
        Preprocess(SPEC, pixels="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("pixels", ["exact", *WORSE])
@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_refused_does_not_depend_on_pixels(pixels: Exactness, progressive: bool) -> None:
    prepare = Preprocess(ImageSpec(size=16), "robust", pixels=pixels)
    whole = encode(Image.fromarray(noise(240, 320)), "JPEG", progressive=progressive)
    for percent in range(0, 97, 8):
        with pytest.raises(ImageError, match=r"cannot be decoded|header is|is empty"):
            prepare(whole[: len(whole) * percent // 100])
    narrow = Preprocess(SPEC, limits=ImageLimits(pixels=240 * 320 - 1), pixels=pixels)
    with pytest.raises(ImageLimitError, match="320x240, over the limit of 76799 pixels"):
        narrow(whole)
    with pytest.raises(ImageLimitError, match="would grow"):
        Preprocess(ImageSpec(), pixels=pixels)(Image.new("RGB", (1, 20_000)))


def decoder() -> Any:
    pytest.importorskip("simplejpeg")
    decode.find_jpeg_decoder.cache_clear()
    found = decode.find_jpeg_decoder()
    assert found is not None
    return found


def test_simplejpeg_gives_the_bits_of_pillow() -> None:
    decoder()
    for sampling in (0, 1, 2):
        for options in ({}, {"progressive": True}, {"quality": 30}, {"keep_rgb": not sampling}):
            data = encode(smooth(301, 203), "JPEG", subsampling=sampling, **options)
            for scale in (1, 2, 4, 8):
                lazy, image = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
                for one in (lazy, image):
                    one.draft("", (301 // scale, 203 // scale))
                assert decode.is_quick(lazy)
                found = decode.read_jpeg(lazy, np.empty(301 * 203 * 3, np.uint8))
                assert found is not None
                np.testing.assert_array_equal(found, np.asarray(image))


@needs_shared
def test_simplejpeg_reads_the_fixtures_as_pillow_does(without_simplejpeg: None) -> None:
    prepare = Preprocess(SPEC, "robust")
    files = [f for f in sorted(FIXTURES.rglob("*")) if f.suffix in (".jpg", ".mpo")]
    wanted = [prepare.rgb(file) for file in files]
    sys.modules.pop("simplejpeg")
    decoder()
    for file, pixels in zip(files, wanted, strict=True):
        np.testing.assert_array_equal(prepare.rgb(file), pixels)


def test_damaged_jpegs_have_one_outcome_with_and_without_simplejpeg(
    without_simplejpeg: None,
) -> None:
    whole = encode(Image.fromarray(noise(48, 64)), "JPEG")
    places = np.random.default_rng(0).integers(0, len(whole), (150, 2))
    files = []
    for spots in places:
        damaged = bytearray(whole)
        for spot in spots:
            damaged[spot] ^= 0xFF
        files.append(bytes(damaged))

    def outcome(data: bytes) -> bytes | str:
        try:
            return Preprocess(ImageSpec(size=8)).rgb(data).tobytes()
        except ImageError as error:
            return str(error)

    wanted = [outcome(data) for data in files]
    sys.modules.pop("simplejpeg")
    decoder()
    assert [outcome(data) for data in files] == wanted


@pytest.mark.parametrize("fault", ["other bits", "another shape", "an error"])
def test_a_simplejpeg_that_differs_is_not_used(
    fault: str, without_simplejpeg: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(data: Any, space: str, min_height: int, min_width: int, buffer: Any) -> Any:
        if fault == "an error":
            raise TypeError("unexpected keyword argument")
        return np.zeros((min_height + (fault == "another shape"), min_width, 3), np.uint8)

    monkeypatch.setitem(sys.modules, "simplejpeg", SimpleNamespace(decode_jpeg=wrong))
    assert decode.find_jpeg_decoder() is None
    image = smooth(90, 70)
    data = encode(image, "JPEG")
    with Image.open(io.BytesIO(data)) as opened:
        wanted = pillow_pixels(opened, Preprocess(SPEC))
    np.testing.assert_array_equal(Preprocess(SPEC).rgb(data), wanted)
