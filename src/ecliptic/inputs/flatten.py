"""Turns any PIL image into upright 8-bit RGB, for `robust` preprocessing.

The reference implementations skip all of this (`image.py`). Order: orientation, bit depth, colour
profile, transparency. Nothing is clipped: 16 bits are scaled by 1/257, so 65535 becomes 255.
"""

import io
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecliptic.checks import check_finite
from ecliptic.errors import ImageError

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
_exif_lock = threading.Lock()  # Pillow parses EXIF on first use; two threads may share an image
_DEEP = ("I", "F")  # and I;16 in its byte orders
_GREY = ("1", "L", "LA")
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}  # premultiplied alpha -> straight
_PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC.1:2022, table 19


def flatten(image: Image.Image, background: Colour, *, srgb: bool = False) -> Image.Image:
    """Turn `image` upright, convert it to RGB and put `background` behind transparency.

    Args:
        image: loaded, of any mode; not changed.
        background: red, green, blue from 0 to 255.
        srgb: convert from the embedded colour profile, if there is one, to sRGB.

    Raises:
        ImageError: values are not finite, or the profile cannot be applied.
    """
    profile = image.info.get("icc_profile") if srgb else None
    image = _reduce_depth(_turn_upright(image))
    colours, alpha = _split_alpha(image)
    colours = _convert_to_srgb(colours, profile) if profile else colours.convert("RGB")
    if alpha is None:
        return colours
    canvas = Image.new("RGB", colours.size, background)
    canvas.paste(colours, mask=alpha)
    return canvas


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


def _reduce_depth(image: Image.Image) -> Image.Image:
    """Convert modes of more than 8 bits to L, and their transparent value, if any, to alpha."""
    if image.mode not in _DEEP and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    grey = Image.fromarray(_scale(values))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _scale(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale (H, W) numbers to 0..255: by the white of their range, else from least to greatest."""
    check_finite(values, "the image", "replace NaN and infinity first.", ImageError)
    low, high = float(values.min()), float(values.max())
    black, white = low, high
    if values.dtype.kind == "f" and low >= 0 and high <= 255:
        black, white = 0.0, 1.0 if high <= 1 else 255.0
    elif values.dtype.kind != "f" and low >= 0 and high <= 65535:
        black, white = 0.0, 65535.0
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


def _convert_to_srgb(colours: Image.Image, profile: bytes) -> Image.Image:
    """Convert `colours` from `profile` to sRGB, with the perceptual intent."""
    from PIL import ImageCms  # loads LittleCMS; few images need it

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        mode = _PROFILE_MODES[space]
        if colours.mode != mode and (mode == "CMYK" or colours.mode == "CMYK" or mode == "L"):
            raise ValueError(f"it is for {space}, the image is {colours.mode}")
        target = ImageCms.createProfile("sRGB")
        plain = colours if colours.mode == mode else colours.convert(mode)
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
        return transform.apply(plain)
    except Exception as reason:  # LittleCMS and profile parsing raise many types
        raise ImageError(
            f"the embedded colour profile cannot be applied: {reason!r}; use icc=None."
        ) from reason
