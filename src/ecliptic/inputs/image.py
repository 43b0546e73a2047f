"""Turns images into pixels, exactly as the reference implementations do, or robustly.

`reference` equals open_clip's `image_transform` (torchvision's Resize, CenterCrop, ToTensor,
Normalize on PIL images) bit for bit, with its oddities: it resizes palettes before they become
RGB, ignores EXIF orientation and clips 16 bits. `robust` first makes the image upright RGB
(`flattening.py`). Uses only NumPy, so that decoding workers need no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecliptic.errors import ConfigError, ImageLimitError, ShapeError
from ecliptic.inputs.arrays import ready_pixels
from ecliptic.inputs.decode import (
    DEFAULT_LIMITS,
    ImageLimits,
    ImageSource,
    count_cost,
    decoding,
    describe,
    identify_image,
    load_image,
)
from ecliptic.inputs.flattening import Colour, flatten
from ecliptic.inputs.pool import budget
from ecliptic.inputs.specs import ImageSpec, Interpolation

PreprocessMode = Literal["reference", "robust"]
Look = Callable[[Image.Image], object]

WHITE: Colour = (255, 255, 255)
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocess:
    """Turns one image into the pixels of the image tower; safe to share between threads."""

    spec: ImageSpec
    mode: PreprocessMode = "reference"
    background: Colour = WHITE  # behind transparency; robust only
    icc: Literal["srgb"] | None = None  # convert embedded profiles; robust only
    limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.mode not in ("reference", "robust"):
            raise ConfigError(f"mode must be 'reference' or 'robust', not {self.mode!r}.")
        if self.icc not in (None, "srgb"):
            raise ConfigError(f"icc must be None or 'srgb', not {self.icc!r}.")
        if len(self.background) != 3 or not all(0 <= c <= 255 for c in self.background):
            raise ConfigError(f"background must be three values of 0..255, not {self.background}.")
        if self.mode == "reference" and (self.icc or self.background != WHITE):
            raise ConfigError("mode 'reference' takes no background or icc; use mode='robust'.")

    def __call__(
        self, source: ImageSource, *, name: str | None = None, look: Look | None = None
    ) -> NDArray[np.float32]:
        """(3, size, size) normalised pixels of an image; floats of that shape pass through.

        Args:
            source: anything `open_image` takes, or floats that are already pixels.
            name: the name in messages; None means `describe(source)`.
            look: called with the whole image when it is decoded; it may not change the image.

        Raises:
            ImageError: the image cannot be used; the message says why.
        """
        name = name or describe(source)
        with decoding(name):
            pixels = ready_pixels(source, self.spec.size)
        if pixels is not None:
            return pixels
        return self.normalize(self.rgb(source, name=name, look=look))

    def rgb(
        self, source: ImageSource, *, name: str | None = None, look: Look | None = None
    ) -> NDArray[np.uint8]:
        """(size, size, 3) RGB, resized and cropped but not normalised; a quarter of the memory."""
        name = name or describe(source)
        with decoding(name):
            images = [identify_image(source, self.limits, name)]
            with budget.take(count_cost(images[0])):
                # pop: the image is freed before its share
                return self._prepare(images.pop(), source, look)

    def load(self, source: ImageSource, *, name: str | None = None) -> Image.Image:
        """The whole image before it is resized: upright RGB in mode "robust"."""
        name = name or describe(source)
        with decoding(name):
            images = [identify_image(source, self.limits, name)]
            with budget.take(count_cost(images[0])):
                return self._load(images.pop(), source, None)

    def _load(self, image: Image.Image, source: ImageSource, look: Look | None) -> Image.Image:
        load_image(image, source)
        if look is not None:
            look(image)
        if self.mode == "robust":
            return flatten(image, self.background, srgb=self.icc == "srgb")
        return image

    def _prepare(
        self, image: Image.Image, source: ImageSource, look: Look | None
    ) -> NDArray[np.uint8]:
        return np.asarray(self._fit(self._load(image, source, look)).convert("RGB"))

    def normalize(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(..., 3, H, W) pixels of (..., H, W, 3) RGB: (v / 255 - mean) / std.

        The float32 steps and their order are those of torchvision's ToTensor and Normalize.
        """
        if rgb.dtype != np.uint8 or rgb.ndim < 3 or rgb.shape[-1] != 3:
            raise ShapeError(
                f"normalize takes (..., H, W, 3) uint8, got {rgb.shape} {rgb.dtype}; "
                "call Preprocess.rgb first."
            )
        planes = np.ascontiguousarray(np.moveaxis(rgb, -1, -3))  # reorder while uint8: cheaper
        pixels = planes.astype(np.float32)
        pixels /= np.float32(255)
        pixels -= np.array(self.spec.mean, dtype=np.float32)[:, None, None]
        pixels /= np.array(self.spec.std, dtype=np.float32)[:, None, None]
        return pixels  # (..., 3, H, W)

    def fingerprint_fields(self) -> dict[str, str]:
        """The settings beside `spec` that change the pixels, as strings."""
        if self.mode == "reference":
            return {"preprocess": "reference"}
        background = "#{:02x}{:02x}{:02x}".format(*self.background)
        return {"preprocess": "robust", "background": background, "icc": self.icc or "none"}

    def _fit(self, image: Image.Image) -> Image.Image:
        size = self.spec.size
        squash = self.spec.resize == "squash"
        to = (size, size) if squash else scale_shorter_side(size, *image.size)
        image = resize_image(image, to, self.spec.interpolation, self.limits)
        return image if squash else image.crop(centre_box(size, *image.size))


def resize_image(
    image: Image.Image, to: tuple[int, int], interpolation: Interpolation, limits: ImageLimits
) -> Image.Image:
    """Resize to (width, height), as torchvision's Resize does with a PIL image.

    Raises:
        ImageLimitError: the result would have more pixels than `limits` allow.
    """
    if image.size == to:
        return image
    if to[0] * to[1] > limits.pixels:  # 1x20000 would grow to 224x4480000
        raise ImageLimitError(
            f"an image of {image.width}x{image.height} would grow to {to[0]}x{to[1]} when "
            f"its shorter side is resized, over the limit of {limits.pixels} pixels; "
            "crop it first."
        )
    return image.resize(to, _FILTERS[interpolation])


def scale_shorter_side(size: int, width: int, height: int) -> tuple[int, int]:
    """(width, height) with a shorter side of `size`; the longer side is rounded down.

    Source: torchvision/transforms/functional.py `_compute_resized_output_size`.
    """
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def centre_box(size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the central square; halves round to the even neighbour.

    Source: torchvision/transforms/functional.py `center_crop`. It never pads here: after
    `scale_shorter_side` no side is shorter than `size`.
    """
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return left, top, left + size, top + size
