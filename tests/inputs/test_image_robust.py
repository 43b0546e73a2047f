"""`robust` pixels: upright, on a background, scaled and not clipped, colour-managed on request."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from ecliptic.errors import ImageError
from ecliptic.inputs import ImageSpec, Preprocess
from ecliptic.inputs.flattening import flatten
from tests.inputs.drawn_images import FIXTURES, encode, needs_shared, noise

WHITE = (255, 255, 255)
SPEC = ImageSpec(size=48)
UPRIGHT = Image.fromarray(noise(48, 64))
# how a camera turns UPRIGHT before it stores it with orientation tag k: the inverse of the viewer
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def colour(image: Image.Image, background: tuple[int, int, int] = WHITE) -> tuple[int, ...]:
    pixel = flatten(image, background).getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def orient(tag: int, layout: str) -> bytes:
    method = STORED[tag]
    stored = UPRIGHT if method is None else UPRIGHT.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = tag
    return encode(stored, layout, exif=exif)


@pytest.mark.parametrize("layout", ["PNG", "TIFF"])
@pytest.mark.parametrize("tag", STORED)
def test_b5_every_orientation_gives_the_upright_pixels(tag: int, layout: str) -> None:
    ours = Preprocess(SPEC, "robust").rgb(orient(tag, layout))
    np.testing.assert_array_equal(ours, Preprocess(SPEC).rgb(UPRIGHT))


def test_the_reference_ignores_orientation() -> None:
    stored = UPRIGHT.transpose(Image.Transpose.ROTATE_90)
    ours = Preprocess(SPEC).rgb(orient(6, "PNG"))
    np.testing.assert_array_equal(ours, Preprocess(SPEC).rgb(stored))


@needs_shared
def test_b5_real_photographs_of_every_orientation_look_alike() -> None:
    prepare = Preprocess(ImageSpec(), "robust")
    upright = prepare.rgb(FIXTURES / "exif/Landscape_1.jpg").astype(float)
    for tag in range(2, 9):
        turned = prepare.rgb(FIXTURES / f"exif/Landscape_{tag}.jpg").astype(float)
        assert np.abs(turned - upright).mean() < 3  # each file was compressed separately


def test_b6_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 129, 40_000, 65_535]], np.uint16)
    for source in (values, values.astype(">u2"), values.astype(np.int32)):
        rgb = np.asarray(flatten(Image.fromarray(source), WHITE))
        assert rgb[0, :, 0].tolist() == [0, 0, 1, 156, 255]
    rgb = Preprocess(ImageSpec(size=1), "robust").rgb(Image.fromarray(values[:, 3:4]))
    assert rgb[0, 0].tolist() == [156, 156, 156]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([10.0, 500.0, 1000.0], [0, 126, 255]),
        ([7e4, 7e4, 7e4], [0, 0, 0]),
    ],
)
def test_b6_floats_are_scaled_from_their_range(values: list[float], wanted: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    assert np.asarray(flatten(image, WHITE))[0, :, 0].tolist() == wanted


def test_floats_that_are_not_finite_are_refused() -> None:
    image = Image.fromarray(np.array([[0.0, np.nan]], np.float32))
    with pytest.raises(ImageError, match="NaN"):
        Preprocess(SPEC, "robust")(image)


def test_b6_every_mode_becomes_its_colour() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    for mode in ("RGBA", "RGBX", "P", "CMYK", "YCbCr", "HSV", "RGBa"):
        image = red.convert("RGBA").convert(mode) if mode == "RGBa" else red.convert(mode)
        np.testing.assert_allclose(colour(image), (255, 0, 0), atol=1)
    lab = red.convert("LAB")
    np.testing.assert_allclose(colour(lab), (255, 0, 0), atol=6)  # LAB has 8 bits
    assert colour(Image.new("1", (1, 1), 1)) == (255, 255, 255)
    assert colour(Image.new("1", (1, 1), 0)) == (0, 0, 0)
    assert colour(Image.new("L", (1, 1), 77)) == (77, 77, 77)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_alpha_is_laid_over_the_background(mode: str) -> None:
    clear = Image.new(mode if mode[-1] == "A" else mode[:-1] + "A", (1, 1))
    clear = clear.convert(mode) if mode[-1] == "a" else clear
    assert colour(clear) == WHITE
    assert colour(clear, (1, 2, 3)) == (1, 2, 3)


def test_colours_hidden_behind_alpha_do_not_show() -> None:
    hidden = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    assert (Preprocess(SPEC, "robust").rgb(hidden) == 255).all()
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert colour(half) == (127, 127, 127)


def test_b6_transparent_palette_entries_and_colour_keys_show_the_background() -> None:
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    for key in (1, b"\xff\x00"):
        palette.info["transparency"] = key
        assert colour(palette, (9, 8, 7)) == (9, 8, 7)
    for image, key in (
        (Image.new("L", (1, 1), 5), 5),
        (Image.new("1", (1, 1), 1), 255),
        (Image.new("RGB", (1, 1), (4, 5, 6)), (4, 5, 6)),
        (Image.fromarray(np.array([[700]], np.uint16)), 700),
    ):
        image.info["transparency"] = key
        assert colour(image, (9, 8, 7)) == (9, 8, 7)


@needs_shared
@pytest.mark.parametrize(
    "name", ["1_trns.png", "l_trns.png", "i_trns.png", "rgb_trns.png", "p_trns_single.png"]
)
def test_transparent_files_change_with_the_background(name: str) -> None:
    path = FIXTURES / "formats" / name
    white, black = (
        Preprocess(SPEC, "robust", background=background).rgb(path)
        for background in (WHITE, (0, 0, 0))
    )
    assert (white != black).any()


def test_palettes_are_smoothed_as_colours() -> None:
    checks = np.kron([[0, 1] * 8, [1, 0] * 8] * 8, np.ones((4, 4))).astype(np.uint8) * 255
    palette = Image.fromarray(checks).convert("RGB").convert("P")
    spec = ImageSpec(size=16)
    assert set(np.unique(Preprocess(spec).rgb(palette))) <= {0, 255}  # nearest, as in open_clip
    np.testing.assert_array_equal(
        Preprocess(spec, "robust").rgb(palette), Preprocess(spec).rgb(palette.convert("RGB"))
    )


def test_plain_rgb_is_the_same_in_both_modes() -> None:
    np.testing.assert_array_equal(Preprocess(SPEC, "robust")(UPRIGHT), Preprocess(SPEC)(UPRIGHT))


@needs_shared
def test_b7_profiles_are_applied_only_on_wish() -> None:
    with Image.open(FIXTURES / "photos/pillow_flower2.jpg") as image:
        tagged = image.info["icc_profile"]
    wide = Image.new("RGB", (4, 4), (200, 30, 60))
    data = encode(wide, "PNG", icc_profile=tagged)
    plain = Preprocess(ImageSpec(size=4), "robust").rgb(data)
    assert (plain == (200, 30, 60)).all()
    expected = ImageCms.profileToProfile(
        wide, io.BytesIO(tagged), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    managed = Preprocess(ImageSpec(size=4), "robust", icc="srgb").rgb(data)
    np.testing.assert_array_equal(managed, np.asarray(expected))
    grey = encode(Image.new("L", (4, 4), 90), "PNG", icc_profile=tagged)
    assert Preprocess(ImageSpec(size=4), "robust", icc="srgb").rgb(grey).shape == (4, 4, 3)
    clear = encode(Image.new("RGBA", (4, 4)), "PNG", icc_profile=tagged)
    assert (Preprocess(ImageSpec(size=4), "robust", icc="srgb").rgb(clear) == 255).all()


def test_an_srgb_profile_changes_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encode(UPRIGHT, "PNG", icc_profile=srgb)
    managed = Preprocess(SPEC, "robust", icc="srgb").rgb(data).astype(int)
    assert np.abs(managed - Preprocess(SPEC).rgb(UPRIGHT)).max() <= 1


def test_a_profile_that_does_not_fit_is_refused_not_ignored() -> None:
    image = Image.new("CMYK", (4, 4))
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    broken = Image.new("RGB", (4, 4))
    broken.info["icc_profile"] = b"no profile"
    for each in (image, broken):
        with pytest.raises(
            ImageError, match=r"^PIL image 4x4 .*colour profile cannot be applied.*icc=None"
        ):
            Preprocess(SPEC, "robust", icc="srgb")(each)
        Preprocess(SPEC, "robust")(each)
