"""Which vectors are of one image: an image that is listed twice tells no more than once.

N, M images, E vector size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SAME = 1e-6  # equal images have a cosine above 1 minus this
_STEP = 128  # rows that are compared at once
_AT_ONCE = 1 << 22  # cosines in memory, 32 MB


def find_copies(rows: Tensor) -> Tensor:
    """(N, E) vectors -> (N,) the place of the first one that each equals: its own, if none.

    Equal unit vectors are near each other in every coordinate, so each vector is compared only with
    those that are near it in the coordinate that differs most.
    """
    units, first = F.normalize(rows.double(), dim=-1), torch.arange(len(rows))
    if len(rows) < 2:
        return first
    line, order = units[:, int(units.var(dim=0).argmax())].sort()
    units, near = units[order], math.sqrt(2 * SAME)
    for start in range(0, len(rows), _STEP):
        stop = min(start + _STEP, len(rows))
        low = int(torch.searchsorted(line, line[start] - near))
        high = int(torch.searchsorted(line, line[stop - 1] + near, right=True))
        equal = units[start:stop] @ units[low:high].T > 1 - SAME  # (n, those near one of them)
        places = torch.where(equal, order[low:high], len(rows)).amin(dim=1)
        first[order[start:stop]] = torch.minimum(places, order[start:stop])
    return first


def are_among(rows: Tensor, others: Tensor, apart: float = SAME) -> Tensor:
    """(N,) whether each of (N, E) vectors equals one of (M, E).

    Args:
        rows, others: the vectors, of any length.
        apart: 1 minus the cosine of two vectors of one image, at most.
    """
    known = F.normalize(others.double(), dim=-1)
    step = max(1, _AT_ONCE // max(1, len(known)))
    found = torch.zeros(len(rows), dtype=torch.bool)
    for start in range(0, len(rows), step):
        block = F.normalize(rows[start : start + step].double(), dim=-1)
        found[start : start + step] = (block @ known.T > 1 - apart).any(dim=1)
    return found


def keep_first(rows: Tensor, numbers: Tensor) -> Tensor:
    """(N,) bools -> the same, with only the first of the true ones that share a number."""
    places = rows.nonzero()[:, 0]
    first = dict(zip(numbers[places].flip(0).tolist(), places.flip(0).tolist(), strict=True))
    kept = torch.zeros_like(rows)
    kept[list(first.values())] = True
    return kept
