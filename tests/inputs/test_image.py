"""`reference` pixels equal open_clip's bit for bit, and the arithmetic needs no torch."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from ecliptic.errors import ConfigError, ImageError, ImageLimitError, ShapeError
from ecliptic.inputs import ImageLimits, ImageSpec, Preprocess
from ecliptic.inputs.resizing import centre_box, scale_shorter_side
from tests import peers
from tests.inputs.drawn_images import FIXTURES, SHARED, manifest, needs_shared, noise

SPECS = (
    ImageSpec(),
    ImageSpec(size=96, resize="squash"),
    ImageSpec(size=61, interpolation="bilinear", mean=(0.5, 0.4, 0.3), std=(0.5, 0.3, 0.2)),
)
EXTRA = ImageLimits(formats=(*ImageLimits().formats, "JPEG2000", "ICO", "PPM", "QOI", "TGA", "PSD"))
EDGES = st.integers(1, 3000)


def open_clip_pixels(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    transform = peers.open_clip().transform.image_transform(
        spec.size,
        is_train=False,
        mean=spec.mean,
        std=spec.std,
        resize_mode=spec.resize,
        interpolation=spec.interpolation,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about palettes with alpha
        return transform(image).numpy()


def assert_same_bits(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape == theirs.shape
    assert ours.tobytes() == theirs.tobytes()


def test_real_photographs_match_released_tensors_to_the_last_bit() -> None:
    folder = SHARED / "artefacts/real_vitb32"
    if not folder.exists():
        pytest.skip("no ../shared/artefacts")
    with np.load(folder / "two_images.npz") as released:
        names, wanted = released["names"], released["preprocessed_uint8_hwc"]
    for name, pixels in zip(names, wanted, strict=True):
        np.testing.assert_array_equal(Preprocess(ImageSpec()).rgb(folder / f"{name}.jpg"), pixels)


@needs_shared
@pytest.mark.parametrize("row", manifest(), ids=lambda row: row["file"])
def test_reference_equals_open_clip_on_every_fixture(row: dict[str, str]) -> None:
    path = FIXTURES / row["file"]
    for spec in SPECS:
        with Image.open(path) as image:
            theirs = open_clip_pixels(image, spec)
        assert_same_bits(Preprocess(spec, limits=EXTRA)(path), theirs)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    mode=st.sampled_from(["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"]),
    spec=st.sampled_from(SPECS),
    size=st.integers(1, 64),
)
def test_reference_equals_open_clip_in_any_mode_and_shape(
    width: int, height: int, mode: str, spec: ImageSpec, size: int
) -> None:
    spec = replace(spec, size=size)
    rgba = Image.fromarray(noise(height, width, 4))
    image = Image.fromarray(noise(height, width, 1).astype(np.uint16) * 250)
    if mode != "I;16":
        image = rgba.convert("RGB").convert(mode) if mode not in ("LA", "RGBA") else rgba
        image = image.convert(mode)
    assert_same_bits(Preprocess(spec)(image), open_clip_pixels(image, spec))


@given(width=EDGES, height=EDGES, size=st.integers(1, 400))
def test_resized_size_is_torchvisions(width: int, height: int, size: int) -> None:
    from_torchvision = peers.torchvision().transforms.functional._compute_resized_output_size
    assert list(scale_shorter_side(size, width, height))[::-1] == from_torchvision(
        (height, width), [size]
    )


@given(width=EDGES, height=EDGES, data=st.data())
def test_centre_box_is_torchvisions(width: int, height: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, min(width, height)))
    left, top, right, bottom = centre_box(size, width, height)
    assert (right - left, bottom - top) == (size, size)
    ramp = torch.arange(width).expand(1, 1, width)
    column = torch.arange(height)[:, None].expand(1, height, 1)
    crop = peers.torchvision().transforms.functional.center_crop
    if width >= size:
        assert crop(ramp, [1, size])[0, 0, 0] == left
    assert crop(column, [size, 1])[0, 0, 0] == top


def test_every_byte_value_normalizes_as_torchvision_does() -> None:
    functional = peers.torchvision().transforms.functional
    rgb = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for spec in SPECS:
        theirs = functional.normalize(functional.to_tensor(rgb), spec.mean, spec.std)
        assert_same_bits(Preprocess(spec).normalize(rgb), theirs.numpy())


def test_a_batch_normalizes_like_its_items() -> None:
    prepare = Preprocess(ImageSpec(size=8))
    batch = np.stack([noise(8, 8, seed=seed) for seed in range(3)])
    alone = np.stack([prepare.normalize(item) for item in batch])
    np.testing.assert_array_equal(prepare.normalize(batch), alone)


def test_normalize_names_what_it_takes() -> None:
    with pytest.raises(ShapeError, match=r"takes \(\.\.\., H, W, 3\) uint8"):
        Preprocess(ImageSpec()).normalize(np.zeros((3, 4, 4), np.uint8))


def test_the_callers_image_stays_as_it_was() -> None:
    image = Image.fromarray(noise(40, 50)).convert("P")
    image.info["transparency"] = bytes(range(200))
    before = image.tobytes(), image.mode, image.size, dict(image.info)
    for spec in (ImageSpec(size=16), ImageSpec(size=16, resize="squash")):
        for mode in ("reference", "robust"):
            Preprocess(spec, mode)(image)  # type: ignore[arg-type]
    assert (image.tobytes(), image.mode, image.size, dict(image.info)) == before


def test_floats_of_the_right_shape_pass_through() -> None:
    prepare = Preprocess(ImageSpec(size=8))
    pixels = prepare(noise(20, 30))
    np.testing.assert_array_equal(prepare(pixels), pixels)
    tensor = torch.from_numpy(pixels).requires_grad_()
    np.testing.assert_array_equal(prepare(tensor), pixels)
    assert prepare(tensor.double()).dtype == np.float32


@pytest.mark.parametrize("shape", [(3, 9, 8), (8, 8, 3), (2, 3, 8, 8), (8, 8)])
def test_floats_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"of shape \(3, 8, 8\).*pass an image as uint8"):
        Preprocess(ImageSpec(size=8))(np.zeros(shape, np.float32))


def test_pixels_with_nan_are_refused() -> None:
    with pytest.raises(ImageError, match="NaN"):
        Preprocess(ImageSpec(size=8))(torch.full((3, 8, 8), float("nan")))


def test_b9_one_pixel_becomes_a_plain_square() -> None:
    rgb = Preprocess(ImageSpec()).rgb(np.array([[[10, 20, 30]]], np.uint8))
    assert (rgb == (10, 20, 30)).all()


@pytest.mark.parametrize("mode", ["reference", "robust"])
def test_b9_a_strip_that_would_grow_without_bound_is_refused(mode: str) -> None:
    strip = Image.new("RGB", (1, 20_000))
    with pytest.raises(ImageLimitError, match="would grow to 224x4480000"):
        Preprocess(ImageSpec(), mode)(strip)  # type: ignore[arg-type]
    assert Preprocess(ImageSpec(size=32), mode)(strip).shape == (3, 32, 32)  # type: ignore[arg-type]
    assert Preprocess(ImageSpec(resize="squash"), mode)(strip).any()  # type: ignore[arg-type]


def test_settings_that_contradict_are_refused() -> None:
    for wrong in (
        {"mode": "best"},
        {"background": (0, 0, 0)},
        {"icc": "srgb"},
        {"mode": "robust", "icc": "p3"},
        {"mode": "robust", "background": (0, 0, 256)},
    ):
        with pytest.raises(ConfigError):
            Preprocess(ImageSpec(), **wrong)  # type: ignore[arg-type]


def test_fingerprint_names_every_choice() -> None:
    spec = ImageSpec()
    choices = [
        Preprocess(spec),
        Preprocess(spec, "robust"),
        Preprocess(spec, "robust", background=(0, 0, 0)),
        Preprocess(spec, "robust", icc="srgb"),
    ]
    fields = [choice.fingerprint_fields() for choice in choices]
    assert fields[0] == {"preprocess": "reference"}
    assert len({tuple(sorted(one.items())) for one in fields}) == len(choices)


def test_preparing_an_image_does_not_import_torch() -> None:
    code = (
        "import sys, numpy; from ecliptic.inputs import ImageSpec, Preprocess;"
        "Preprocess(ImageSpec())(numpy.zeros((9, 9, 3), 'uint8'));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
