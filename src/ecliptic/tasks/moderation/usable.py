"""Images or vectors that a caller gives, and which of them cannot be used.

N images, E vector size.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecliptic.checks import rows_not_finite
from ecliptic.engine import Clip, Vectors, escape_surrogates, given_vectors, image_items
from ecliptic.inputs import describe
from ecliptic.scoring import to_tensor

NOT_FINITE = "its vector holds NaN or infinity, so nothing is known about it"
ZERO = "its vector is zero, so nothing is known about it"


def split_usable(
    images: Any, clip: Clip, *, normalize: bool = True
) -> tuple[Tensor, dict[int, str], Sequence[str]]:
    """(N, E) vectors, why some rows cannot be used, and the name of each image.

    The vector of a row that cannot be used is zero.

    Args:
        images: as for `Clip.encode_image`, or their vectors.
        clip: the model.
        normalize: make the vectors of images unit length.

    Raises:
        SpaceMismatchError, ShapeError: vectors of another model.
    """
    errors: dict[int, str] = {}
    if isinstance(images, Vectors):
        rows = given_vectors(images, clip.card)
        names = images.ids
    elif _is_rows(images):
        rows = to_tensor(images).detach().float().cpu().clone()
        errors = dict.fromkeys(rows_not_finite(rows), NOT_FINITE)
        rows[list(errors)] = 0
        rows, names = given_vectors(rows, clip.card), None
    else:
        return _encode(images, clip, normalize=normalize)
    assert rows is not None
    errors |= dict.fromkeys(set(zero_rows(rows)) - errors.keys(), ZERO)
    return rows, errors, names or [f"row {row}" for row in range(len(rows))]


def _encode(
    images: Any, clip: Clip, *, normalize: bool
) -> tuple[Tensor, dict[int, str], Sequence[str]]:
    items = list(image_items(images))
    done = clip.encode_image(items, normalize=normalize, on_error="reject")
    rows = torch.zeros(len(items), clip.card.embed)
    rows[list(done.kept)] = done.vectors
    errors = {one.index: one.reason for one in done.rejected}
    errors |= dict.fromkeys(set(zero_rows(rows)) - errors.keys(), ZERO)
    return rows, errors, [_name(item) for item in items]


def _name(item: Any) -> str:
    """The path of a file as it is; anything else as messages call it."""
    path = os.fspath(item) if isinstance(item, str | os.PathLike) else None
    return escape_surrogates(path) if isinstance(path, str) else describe(item)


def zero_rows(rows: Tensor) -> list[int]:
    """The places of (N, E) vectors that are zero."""
    found: list[int] = (rows == 0).all(dim=1).nonzero()[:, 0].tolist()
    return found


def _is_rows(given: Any) -> bool:
    """Whether a tensor or an array has two axes, which no image has, and holds floats."""
    if isinstance(given, np.ndarray):
        return given.ndim == 2 and given.dtype.kind == "f"
    return isinstance(given, Tensor) and given.ndim == 2 and given.is_floating_point()
