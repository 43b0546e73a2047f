"""The one place that makes a list of images of whatever a caller passes as images."""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from ecliptic.errors import InputError
from ecliptic.inputs import ImageSource

Images: TypeAlias = "ImageSource | Tensor | Sequence[ImageSource]"  # one, or many


def image_items(images: Any) -> Iterable[ImageSource]:
    """One image as a list of one; a batch in an array or tensor of four axes as its items.

    Raises:
        InputError: no image and no images, or images without an order.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUST":
        raise InputError(
            f"images is an array of {images.dtype}, but arrays are taken for pixels; pass a list: "
            "images.tolist()."
        )
    if isinstance(images, np.ndarray | Tensor):
        return list(images) if images.ndim == 4 else [images]
    if isinstance(images, str | bytes | bytearray | memoryview | Image.Image):
        return [images]
    if hasattr(images, "read") or hasattr(images, "__fspath__"):
        return [images]
    if not isinstance(images, Iterable):
        raise InputError(
            f"images must be an image or a list of them, got {type(images).__name__}; pass paths, "
            "PIL images, uint8 arrays, bytes or pixels."
        )
    check_ordered(images, "images")
    return images


def check_ordered(items: Any, name: str) -> None:
    """Raise InputError for a collection whose order is not the caller's."""
    if isinstance(items, Mapping | AbstractSet):
        raise InputError(
            f"{name} come back as rows in their order, which a {type(items).__name__} does not "
            "state; pass a list."
        )
