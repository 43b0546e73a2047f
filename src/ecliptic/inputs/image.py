"""Turns images into pixels, exactly as the reference implementations do, or robustly.

`reference` equals open_clip's `image_transform` (torchvision's Resize, CenterCrop, ToTensor,
Normalize on PIL images) bit for bit, with its oddities: it resizes palettes before they become
RGB, ignores EXIF orientation and clips 16 bits. `robust` first makes the image upright RGB
(`flattening.py`).

Beside this, `pixels` says how near the pixels are to those of Pillow: "exact" is the same bits,
"close" resizes with torch's 8-bit kernel, and "fast" decodes a JPEG at 1/2 to 1/8 of its size. The
two are apart because speed has nothing to do with orientation and transparency. Only "close" and
"fast" import torch, when they are first used, so workers that decode need none for "exact".
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.inputs.arrays import ready_pixels
from ecliptic.inputs.decode import (
    DEFAULT_LIMITS,
    JPEG,
    ImageLimits,
    ImageSource,
    count_cost,
    decoding,
    describe,
    identify_image,
    is_quick,
    load_image,
    read_jpeg,
    reduce_jpeg,
)
from ecliptic.inputs.flattening import (
    FROM_BELOW,
    FROM_RIGHT,
    LYING,
    Colour,
    flatten,
    orientation,
    turn_rows,
)
from ecliptic.inputs.pool import budget, spare
from ecliptic.inputs.resizing import (
    CLOSE_WORTHWHILE,
    FILTERS,
    Cropping,
    RgbRows,
    can_be_close,
    centre_box,
    check_growth,
    is_worthwhile,
    resize_closely,
    resize_image,
    scale_shorter_side,
    shrink_exactly,
    size_of,
)
from ecliptic.inputs.specs import ImageSpec

PreprocessMode = Literal["reference", "robust"]
Exactness = Literal["exact", "close", "fast"]


class Look(Protocol):
    """Sees a decoded image and the (width, height) of its file."""

    def __call__(self, image: Image.Image, size: tuple[int, int]) -> object: ...  # noqa: D102


WHITE: Colour = (255, 255, 255)
LOOKED_AT = 320  # pixels of the longer side that `look` sees at least, unless the file has fewer
ERRORS = {  # of `pixels`, against "exact", in levels of 0 to 255
    "close": "at most 1 level",
    "fast": "mean 0.7 levels on photographs, at most 1.4 on one; "
    "up to 8 on pages of text, 36 on fine stripes",
}
_MARGIN = 1.5  # a JPEG is decoded at a size of at least so many times the wanted one


@dataclass(frozen=True)
class Preprocess:
    """Turns one image into the pixels of the image tower; safe to share between threads."""

    spec: ImageSpec
    mode: PreprocessMode = "reference"
    background: Colour = WHITE  # behind transparency; robust only
    icc: Literal["srgb"] | None = None  # convert embedded profiles; robust only
    limits: ImageLimits = DEFAULT_LIMITS
    pixels: Exactness = "exact"  # "close": within 1 level; "fast": scaled decoding, mean of ERRORS

    def __post_init__(self) -> None:
        if self.mode not in ("reference", "robust"):
            raise ConfigError(f"mode must be 'reference' or 'robust', not {self.mode!r}.")
        if self.pixels not in ("exact", "close", "fast"):
            raise ConfigError(f"pixels must be 'exact', 'close' or 'fast', not {self.pixels!r}.")
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
            look: called with the decoded image and the (width, height) of its file; it may not
                change the image. With "fast" pixels the image may be smaller than its file.

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
                return self._load(images.pop(), source)

    def _load(
        self,
        image: Image.Image,
        source: ImageSource,
        look: Callable[[Image.Image], object] | None = None,
    ) -> Image.Image:
        load_image(image, source)
        if look is not None:
            look(image)
        if self.mode == "robust":
            return flatten(image, self.background, srgb=self.icc == "srgb")
        return image

    def _prepare(self, image: Image.Image, source: ImageSource, look: Look | None) -> RgbRows:
        size, own = image.size, image is not source
        scale, is_jpeg = 1, own and image.format in JPEG
        if self.pixels == "fast" and own:
            scale = reduce_jpeg(image, _MARGIN * self.spec.size, LOOKED_AT if look else 1)
        turn = orientation(image) if self.mode == "robust" and image.format in JPEG else None
        quick = own and look is None and not self._has_profile(image) and is_quick(image)
        with spare.take(image.width * image.height * 3) if quick else nullcontext() as buffer:
            rows = None if buffer is None else read_jpeg(image, buffer)
            if rows is not None:
                picture: Image.Image | RgbRows = turn_rows(rows, turn)
            else:
                picture = self._load(image, source, partial(look, size=size) if look else None)
            if scale > 1:
                return self._fit_reduced(picture, (size[0] / scale, size[1] / scale), turn)
            return self._fit(picture, is_jpeg)

    def _has_profile(self, image: Image.Image) -> bool:
        return self.icc is not None and bool(image.info.get("icc_profile"))

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
        """The settings beside `spec` that change the pixels, and the error of `pixels`."""
        near = {}
        if self.pixels != "exact":
            near = {"pixels": self.pixels, "error": ERRORS[self.pixels]}
        if self.mode == "reference":
            return {"preprocess": "reference", **near}
        background = "#{:02x}{:02x}{:02x}".format(*self.background)
        return {
            "preprocess": "robust",
            "background": background,
            "icc": self.icc or "none",
            **near,
        }

    def _cut(self, size: tuple[float, float]) -> Cropping:
        side = self.spec.size
        if self.spec.resize == "squash":
            return Cropping(side, side, 0, 0, side)
        to = scale_shorter_side(side, *size)
        return Cropping(*to, *centre_box(side, *to)[:2], side)

    def _fit(self, picture: Image.Image | RgbRows, is_jpeg: bool) -> RgbRows:
        """(size, size, 3) of the whole image.

        Args:
            picture: upright; of a file, or as it was given.
            is_jpeg: whether it is of a JPEG file. Whether simplejpeg decoded it says nothing here,
                for the pixels must not depend on what is installed.
        """
        size, filter_ = size_of(picture), self.spec.interpolation
        cut = self._cut(size)
        to = (cut.width, cut.height)
        check_growth(size, to, self.limits)
        if isinstance(picture, Image.Image) and self.pixels != "exact" and picture.mode == "L":
            picture = picture.convert("RGB")  # three equal planes
        small = not is_jpeg and size[0] * size[1] < CLOSE_WORTHWHILE
        if self.pixels != "exact" and not small and can_be_close(picture, cut, filter_):
            return resize_closely(picture, cut, filter_)
        rows = None if isinstance(picture, Image.Image) else picture
        if rows is not None and is_worthwhile(rows, cut, filter_):
            return shrink_exactly(rows, cut, filter_)
        image = resize_image(_as_image(picture), to, filter_, self.limits)
        box = (cut.left, cut.top, cut.left + cut.size, cut.top + cut.size)
        return np.asarray(image.crop(box).convert("RGB"))

    def _fit_reduced(
        self, picture: Image.Image | RgbRows, size: tuple[float, float], turn: int | None
    ) -> RgbRows:
        """(size, size, 3) of a JPEG that was decoded at a part of its size.

        Args:
            picture: upright.
            size: width and height of the file divided by the scale. What is above it in the image
                shows nothing: 4001 pixels become 500.125, decoded as 501.
            turn: the orientation by which the picture was made upright.
        """
        image, side = _as_image(picture), self.spec.size
        lying = turn in LYING
        width, height = size[::-1] if lying else size
        left = image.width - width if turn in (FROM_BELOW if lying else FROM_RIGHT) else 0.0
        top = image.height - height if turn in (FROM_RIGHT if lying else FROM_BELOW) else 0.0
        cut = self._cut((width, height))
        across, down = width / cut.width, height / cut.height
        left, top = left + cut.left * across, top + cut.top * down
        right = min(left + side * across, image.width)
        bottom = min(top + side * down, image.height)
        filter_ = FILTERS[self.spec.interpolation]
        square = image.resize((side, side), filter_, box=(left, top, right, bottom))
        return np.asarray(square.convert("RGB"))


def _as_image(picture: Image.Image | RgbRows) -> Image.Image:
    return picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
