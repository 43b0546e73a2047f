"""Distances of vectors whose gradients are finite everywhere. B batch, P prompts, E vector size."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["spherical", "cosine"]
_LEAST = 1e-12  # square of a length that counts as zero; its root has a finite gradient


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the square of the angle in radians, 0 to pi^2 / 2; axes before the last broadcast.

    It is `2 arcsin(|a - b| / 2)^2` of the notebooks by K. Crowson (v-diffusion `clip_sample.py`),
    which is NaN for opposite vectors when rounding lifts the length above 2; the arctangent of the
    two lengths is the same angle and has no such place.

    Args:
        a: (..., E), any length but zero.
        b: (..., E).
    """
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    apart, along = _length(a - b), _length(a + b)
    return 2 * torch.atan2(apart, along).square()


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cosine, 0 to 2; axes before the last broadcast: (..., E) and (..., E) -> (...)."""
    return 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(dim=-1)


def _length(x: Tensor) -> Tensor:
    return x.square().sum(dim=-1).add(_LEAST).sqrt()


DISTANCES: dict[Distance, Callable[[Tensor, Tensor], Tensor]] = {
    "spherical": spherical_distance,
    "cosine": cosine_distance,
}
