"""Arrays and tensors as images, or as finished pixels; never imports torch.

Conventions: a NumPy array is an image (H, W[, C]); a torch tensor is an image (C, H, W); an array
or tensor of floats is pixels (3, size, size) that are resized and normalised already.
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
    """Whether `source` is a torch tensor; False where torch is not imported yet."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def ready_pixels(source: Any, size: int) -> NDArray[np.float32] | None:
    """(3, size, size) float32 pixels if `source` holds floats, None if it is an image.

    Raises:
        ImageError: the floats have another shape, or are not finite.
    """
    if is_tensor(source):
        if not source.is_floating_point():
            return None
        source = source.detach().cpu().float().numpy()
    if not isinstance(source, np.ndarray) or source.dtype.kind != "f":
        return None
    if source.shape != (3, size, size):
        raise ImageError(
            f"floats must be resized and normalised pixels of shape (3, {size}, {size}), but these "
            f"have {source.shape}; pass an image as uint8, or one item of a batch at a time."
        )
    check_finite(source, "the pixels", "look at the step that made them.", ImageError)
    return np.ascontiguousarray(source, dtype=np.float32)


def image_from_array(source: Any) -> Image.Image:
    """Make an L, RGB or RGBA image of a uint8 array (H, W[, C]) or tensor (C, H, W).

    Raises:
        ImageError: the dtype or shape is another one, or there are no pixels.
    """
    array, expected = _move_channels_last(source)
    if array.dtype != np.uint8:
        raise ImageError(
            f"an image in an array must be uint8 from 0 to 255, but this one is {array.dtype}; "
            "scale it to 0..255 and convert it (16 bits: divide by 257)."
        )
    if array.ndim != 3 or array.shape[2] not in CHANNELS:
        raise ImageError(f"expected an image of shape {expected}, got {tuple(source.shape)}.")
    if array.size == 0:
        raise ImageError(f"an image of shape {tuple(source.shape)} has no pixels.")
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _move_channels_last(source: Any) -> tuple[Array, str]:
    if is_tensor(source):
        array: Array = source.detach().cpu().numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
        return array, "(C, H, W) with C 1, 3 or 4, as in tensors (arrays have H, W, C)"
    array = np.asarray(source)
    array = array[:, :, None] if array.ndim == 2 else array
    return array, "(H, W) or (H, W, C) with C 1, 3 or 4, as in arrays (tensors have C, H, W)"
