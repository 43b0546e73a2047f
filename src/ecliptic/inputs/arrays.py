"""Arrays and tensors as images, or as pixels that are ready; torch is never imported here.

Conventions: a NumPy array is an image (H, W[, C]); a torch tensor is an image (C, H, W); either
one with floats is pixels (3, size, size) that were resized and normalised already.
"""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecliptic.checks import check_finite
from ecliptic.errors import ImageError

Array = NDArray[Any]
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def is_tensor(source: object) -> bool:
    """Whether `source` is a torch tensor; without torch loaded there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def ready_pixels(source: object, size: int) -> NDArray[np.float32] | None:
    """`source` itself as (3, size, size) float32 if it holds floats, None if it is an image.

    Raises:
        ImageError: floats of another shape, or not finite.
    """
    if is_tensor(source):
        if not source.is_floating_point():  # type: ignore[attr-defined]
            return None
        source = source.detach().cpu().float().numpy()  # type: ignore[attr-defined]
    if not isinstance(source, np.ndarray) or source.dtype.kind != "f":
        return None
    if source.shape != (3, size, size):
        raise ImageError(
            f"floats are taken as pixels that are resized and normalised already, of shape "
            f"(3, {size}, {size}), but these have {source.shape}; pass an image as uint8, "
            "or one item of a batch at a time."
        )
    check_finite(source, "the pixels", "look at the step that made them.", ImageError)
    return np.ascontiguousarray(source, dtype=np.float32)


def image_from_array(source: object) -> Image.Image:
    """An L, RGB or RGBA image of a uint8 array (H, W[, C]) or tensor (C, H, W).

    Raises:
        ImageError: another dtype or shape, or no pixels at all.
    """
    array, wanted = _height_width_channels(source)
    if array.dtype != np.uint8:
        raise ImageError(
            f"an image in an array holds uint8 from 0 to 255, but this one is {array.dtype}; "
            "scale it to 0..255 and convert it (16 bit: divide by 257)."
        )
    if array.ndim != 3 or array.shape[2] not in CHANNELS:
        raise ImageError(f"expected an image of shape {wanted}, got {_shape(source)}.")
    if array.size == 0:
        raise ImageError(f"an image of shape {_shape(source)} has no pixels.")
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _height_width_channels(source: object) -> tuple[Array, str]:
    if is_tensor(source):
        array: Array = source.detach().cpu().numpy()  # type: ignore[attr-defined]
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
        return array, "(C, H, W) with C 1, 3 or 4, as tensors have it (arrays have H, W, C)"
    array = np.asarray(source)
    array = array[:, :, None] if array.ndim == 2 else array
    return array, "(H, W) or (H, W, C) with C 1, 3 or 4, as arrays have it (tensors have C, H, W)"


def _shape(source: object) -> tuple[int, ...]:
    return tuple(source.shape)  # type: ignore[attr-defined]
