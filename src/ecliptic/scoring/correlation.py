"""Correlations of two lists of numbers: Pearson's of the values, Spearman's of their ranks.

All sums are in float64. N values, R rows, such as the samples of a bootstrap.
Source: Pearson 1895; Spearman 1904, "The proof and measurement of association between two things",
with average ranks for ties (Kendall 1945).
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ShapeError

NumberList: TypeAlias = Tensor | NDArray[Any] | Sequence[float]  # (N,), or (R, N) for R lists
_LEAST = 1e-300  # of what is divided by
_ROUNDING = 1e-14  # relative: a list that varies less is constant


def pearson(a: NumberList, b: NumberList) -> float:
    """The linear correlation of two lists, from -1 to 1; 0 if one of them does not vary.

    Args:
        a, b: (N,) numbers, at least two; place i of one belongs to place i of the other.

    Raises:
        ShapeError: lists of different lengths, or fewer than two numbers.
        NumericalError: a number is NaN or infinite.
    """
    return float(correlate_rows(*_check_pair(a, b)))


def spearman(a: NumberList, b: NumberList) -> float:
    """The correlation of the ranks of two lists: 1 if both order their items in the same way.

    Args and errors are those of `pearson`. Equal values share the mean of their ranks.
    """
    return float(correlate_rows(*map(average_ranks, _check_pair(a, b))))


def correlate_rows(a: Tensor, b: Tensor) -> Tensor:
    """(..., N) and (..., N) finite numbers -> (...) linear correlations; 0 where a row is flat."""
    a, b = (x - x.mean(dim=-1, keepdim=True) for x in (a.double(), b.double()))
    a, b = (F.normalize(x, dim=-1, eps=_LEAST) for x in (_centre(a), _centre(b)))
    return (a * b).sum(-1).clamp(-1, 1)


def _centre(rows: Tensor) -> Tensor:
    """Each row without its mean; zeros where it varies by rounding only."""
    rows = rows.double()
    rows = rows / rows.abs().amax(dim=-1, keepdim=True).clamp(min=_LEAST)  # no overflow
    centred = rows - rows.mean(dim=-1, keepdim=True)
    return centred.where(centred.abs().amax(dim=-1, keepdim=True) > _ROUNDING, 0)


def average_ranks(values: Tensor) -> Tensor:
    """(..., N) numbers -> (..., N) float64 ranks from 1; equal values share the mean of theirs."""
    rows = values.contiguous()
    order = rows.sort(dim=-1).values
    below = torch.searchsorted(order, rows)
    upto = torch.searchsorted(order, rows, right=True)
    return (below + upto + 1).double() / 2


def _check_pair(a: NumberList, b: NumberList) -> tuple[Tensor, Tensor]:
    one, other = _to_doubles(a), _to_doubles(b)
    if one.ndim != 1 or one.shape != other.shape or len(one) < 2:
        raise ShapeError(
            "a correlation needs two lists of at least two numbers and of one length, got "
            f"{tuple(one.shape)} and {tuple(other.shape)}."
        )
    for values in (one, other):
        check_finite(values, "the numbers of a correlation", "leave the items without a value out.")
    return one, other


def _to_doubles(values: NumberList) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.from_numpy(np.array(values, dtype=np.float64))
