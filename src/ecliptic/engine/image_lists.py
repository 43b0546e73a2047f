"""Makes a list of the images that a caller passes; the only place that does so."""

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from ecliptic.errors import InputError
from ecliptic.inputs import ImageSource

Images: TypeAlias = "ImageSource | Tensor | Sequence[ImageSource]"  # one, or many


def image_items(images: Any) -> Iterable[ImageSource]:
    """A list of the images; an array or tensor of four axes is a batch.

    Raises:
        InputError: neither an image nor a list of images, or images without an order.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "OUST":
        raise InputError(
            f"images is an array of {images.dtype}, but arrays must be pixels; pass a list: "
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
    """Raise InputError for a set or a mapping."""
    if isinstance(items, Mapping | AbstractSet):
        raise InputError(
            f"{name} come back as rows in the same order, but a {type(items).__name__} is not a "
            "sequence; pass a list."
        )
