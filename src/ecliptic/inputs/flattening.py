"""Turns any PIL image into upright 8-bit RGB, for `robust` preprocessing.

The reference implementations skip all of this (`image.py`). Order: orientation, bit depth, colour
profile, transparency. Nothing is clipped: 16 bits are scaled by 1/257, so 65535 becomes 255.
"""

import io
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecliptic.checks import check_finite
from ecliptic.errors import ImageError

if TYPE_CHECKING:
    from PIL import ImageCms

Colour = tuple[int, int, int]

_ORIENTATION = 0x0112  # EXIF 2.32, table 4
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # rows of the file are columns of the picture
FROM_BELOW, FROM_RIGHT = (3, 4, 6, 7), (2, 3, 7, 8)  # first of all, rows or columns are reversed
_exif_lock = threading.Lock()  # Pillow parses EXIF on first use; two threads may share an image
_STRIP = 1 << 18  # pixels that are converted at once
_DEEP = ("I", "F")  # and I;16 in its byte orders
_GREY = ("1", "L", "LA")
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # premultiplied alpha -> straight
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC.1:2022, table 19


def flatten(image: Image.Image, background: Colour, *, srgb: bool = False) -> Image.Image:
    """Turn `image` upright, convert it to RGB and put `background` behind transparency.

    Works in strips of rows: beside the image it holds the result, 4 bytes per pixel, and for a
    rotated image the upright one.

    Args:
        image: loaded, of any mode; not changed.
        background: red, green, blue from 0 to 255.
        srgb: convert from the embedded colour profile, if there is one, to sRGB.

    Raises:
        ImageError: values are not finite, or the profile cannot be applied.
    """
    profile = image.info.get("icc_profile") if srgb else None
    image = _turn_upright(image)
    if image.mode == "RGB" and not profile and not image.has_transparency_data:
        return image
    levels = _find_levels(image) if _is_deep(image) else None
    convert = _SrgbConversion(profile) if profile else _convert_plainly
    canvas = Image.new("RGB", image.size, background)
    for top, strip in _strips(image):
        strip = _reduce_depth(strip, levels) if levels else strip
        colours, alpha = _split_alpha(strip)
        canvas.paste(convert(colours), (0, top), alpha)
    return canvas


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(top, strip) of the rows of an image, some at a time."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _convert_plainly(colours: Image.Image) -> Image.Image:
    return colours.convert("RGB")


def orientation(image: Image.Image) -> int | None:
    """EXIF orientation, 1 to 8; None where the image has none."""
    try:
        with _exif_lock:
            found = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata counts as none
        return None
    return found if isinstance(found, int) else None


def _turn_upright(image: Image.Image) -> Image.Image:
    method = _TO_UPRIGHT.get(orientation(image) or 0)
    return image if method is None else image.transpose(method)


def turn_rows(rows: NDArray[np.uint8], orientation: int | None) -> NDArray[np.uint8]:
    """(H, W, 3) turned and mirrored as an EXIF orientation says."""
    if orientation not in _TO_UPRIGHT:
        return rows
    rows = rows[::-1] if orientation in FROM_BELOW else rows
    rows = rows[:, ::-1] if orientation in FROM_RIGHT else rows
    return np.ascontiguousarray(rows.swapaxes(0, 1) if orientation in LYING else rows)


def _is_deep(image: Image.Image) -> bool:
    return image.mode in _DEEP or image.mode.startswith("I;16")


def _reduce_depth(image: Image.Image, levels: tuple[float, float]) -> Image.Image:
    """Convert modes of more than 8 bits to L, and their transparent value, if any, to alpha."""
    values = np.asarray(image)
    grey = Image.fromarray(_scale(values, *levels))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _find_levels(image: Image.Image) -> tuple[float, float]:
    """The values of black and white: those of the range of numbers, else the least and greatest."""
    low, high, floats = math.inf, -math.inf, image.mode == "F"
    for _, strip in _strips(image):
        values = np.asarray(strip)
        check_finite(values, "the image", "replace NaN and infinity first.", ImageError)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if floats and low >= 0 and high <= 255:
        return 0.0, 1.0 if high <= 1 else 255.0
    if not floats and low >= 0 and high <= 65535:
        return 0.0, 65535.0
    return low, high


def _scale(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Scale (H, W) numbers from `black` to `white` to 0..255."""
    span = (white - black) or 1.0
    unit = (values.astype(np.float64) - black) / span
    return np.floor(unit * 255.0 + 0.5).astype(np.uint8)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in L, RGB, CMYK or a mode that converts to RGB, and the alpha if there is any."""
    image = image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image
    if not image.has_transparency_data:
        return image, None
    rgba = image.convert("RGBA")
    return rgba.convert("L" if image.mode in _GREY else "RGB"), rgba.getchannel("A")


class _SrgbConversion:
    """Converts colours from an embedded profile to sRGB, with the perceptual intent."""

    def __init__(self, profile: bytes) -> None:
        self.profile = profile
        self._transform: ImageCms.ImageCmsTransform | None = None  # made for the first strip
        self._mode = ""

    def __call__(self, colours: Image.Image) -> Image.Image:
        try:
            if self._transform is None:
                self._transform = self._make(colours.mode)
            plain = colours if colours.mode == self._mode else colours.convert(self._mode)
            return self._transform.apply(plain)
        except Exception as reason:  # LittleCMS and profile parsing raise many types
            raise ImageError(
                f"the embedded colour profile cannot be applied: {reason!r}; use icc=None."
            ) from reason

    def _make(self, given: str) -> "ImageCms.ImageCmsTransform":
        from PIL import ImageCms  # loads LittleCMS; few images need it

        source = ImageCms.ImageCmsProfile(io.BytesIO(self.profile))
        space = source.profile.xcolor_space.strip()
        self._mode = mode = _PROFILE_MODES[space]
        if given != mode and (mode == "CMYK" or given == "CMYK" or mode == "L"):
            raise ValueError(f"it is for {space}, the image is {given}")
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
