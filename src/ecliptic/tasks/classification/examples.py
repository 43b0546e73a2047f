"""Labelled images, each of them once: equal vectors are the same picture.

A picture that stands twice among the examples would be learned from and judged on at once, and
count as two where a promise needs a number of images. N images, E vector size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.scoring import NONE, NONE_OF_THESE

SAME = 1e-6  # how far the cosine of equal pictures may be below 1
_ROWS = 1024  # compared at once


@dataclass(frozen=True, eq=False)
class LabelledVectors:
    """Labelled images that differ from each other."""

    vectors: Tensor  # (N, E)
    truth: Tensor  # (N,) places of labels, or (N, L) bools
    repeats: int = 0  # rows that were left out, because they show an earlier picture


def different_images(vectors: Tensor, truth: Tensor, names: Sequence[str]) -> LabelledVectors:
    """The first row of each picture.

    Args:
        vectors: (N, E).
        truth: (N,) places of labels or `NONE`, or (N, L) whether each label is right.
        names: of the labels, for the error.

    Raises:
        ConfigError: one picture has two different truths; the message names both rows.
    """
    first = find_first(vectors)
    rows = torch.arange(len(first))
    apart = truth != truth[first]
    if bad := (apart.any(dim=1) if truth.ndim == 2 else apart).nonzero()[:, 0].tolist():
        one, other = int(first[bad[0]]), bad[0]
        raise ConfigError(
            f"images {one} and {other} are the same picture, but one is labelled "
            f"{_name(truth[one], names)!r} and the other {_name(truth[other], names)!r}; correct "
            "one of them, or leave both out."
        )
    new = first == rows
    return LabelledVectors(vectors[new], truth[new], int((~new).sum()))


def find_first(vectors: Tensor) -> Tensor:
    """(N,) the first row that shows the same picture; its own number where there is none."""
    unit = F.normalize(vectors.float(), dim=-1)
    first = torch.arange(len(unit))
    for start in range(0, len(unit), _ROWS):
        stop = min(start + _ROWS, len(unit))
        near = unit[start:stop] @ unit[:stop].T >= 1 - SAME
        near[torch.arange(stop - start), torch.arange(start, stop)] = True  # a zero vector too
        first[start:stop] = near.int().argmax(dim=1)
    return first


def shown_before(vectors: Tensor, earlier: Tensor) -> Tensor:
    """(N,) whether each picture is among the (M, E) earlier ones."""
    unit, known = (F.normalize(some.float(), dim=-1) for some in (vectors, earlier))
    blocks = (unit[start : start + _ROWS] @ known.T for start in range(0, len(unit), _ROWS))
    found = [(block >= 1 - SAME).any(dim=1) for block in blocks]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool)


def _name(truth: Tensor, names: Sequence[str]) -> str:
    if truth.ndim == 0:
        return NONE_OF_THESE if int(truth) == NONE else names[int(truth)]
    held = [name for name, right in zip(names, truth.tolist(), strict=True) if right]
    return ", ".join(held) or NONE_OF_THESE
