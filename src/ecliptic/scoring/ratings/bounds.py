"""Intervals for measures of a cross-validation: of a rank correlation, and of a share.

Two things make them wider than those of independent rows. Rows of one unit (an author, the pairs
that share an image) are alike, so units are counted, with Student's t because they may be few. And
the folds learn from each other: what is noise in a fit counts once where it is tested and once
where it is learnt from, so the results of noise vary twice as much as they seem to.
N rows, K folds.
Source: Bengio & Grandvalet 2004, No unbiased estimator of the variance of K-fold cross-validation
(the problem); Bonett & Wright 2000, Sample size requirements for estimating Pearson, Kendall and
Spearman correlations (the scale of the interval).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.scoring.correlation import average_ranks
from ecliptic.scoring.intervals import Interval, standard_error, wilson_of_groups
from ecliptic.scoring.student import student_quantile

TAIL = 0.025  # on each side of a 95 % interval
SIGNS = 2 / math.pi  # of the correlation of two normal variables that their signs have, near 0
_LEAST = 1e-300  # of what is divided by


def bound_correlation(scores: Tensor, ratings: Tensor, units: Tensor, noise: float) -> Interval:
    """Spearman's correlation of two (N,) lists, with a 95 % interval.

    Args:
        scores: (N,) of rows that their fit has not seen, comparable across folds.
        ratings: (N,).
        units: (N,) the number of the unit of each row; at least two.
        noise: of `noise_share`.
    """
    a, b = (_to_unit_spread(average_ranks(rows)) for rows in (scores, ratings))
    value = float((a * b).mean().clamp(-1, 1))
    count = len(torch.unique(units))
    error = standard_error(a * b - value * (a.square() + b.square()) / 2, units)
    near = max(min(value, 1 - 1 / count), 1 / count - 1)  # a perfect order has an interval too
    error /= 1 - near**2
    if count == len(units) or error == 0:  # not below that of a normal sample
        error = max(error, 1 / math.sqrt(max(count - 3, 1)))
    reach = student_quantile(TAIL, count - 1) * math.sqrt(1 + noise) * error
    low, high = (math.tanh(math.atanh(near) + side) for side in (-reach, reach))
    return Interval(low, value, high).within(-1, 1)


def bound_share(right: Tensor, units: Tensor, noise: float) -> Interval:
    """The share of (N,) rows that are right, with a 95 % interval; as of `bound_correlation`."""
    return wilson_of_groups(right.double(), units, inflation=1 + SIGNS * noise)


def noise_share(parts: Sequence[Tensor]) -> float:
    """The share of scores that is noise of the fit, from 0 to 1.

    Two fits without two folds share all but one of those that they learnt from. Their scores of a
    row that neither has seen correlate by (K - 3) / (K - 2) if all is noise, and by 1 if none is.

    Args:
        parts: for each of K folds, (K - 1, n) scores of its rows by the fits that have not seen it
            nor one other fold.
    """
    found = []
    for rows in parts:
        unit, fits = F.normalize(rows, dim=1, eps=_LEAST), len(rows)
        found.append((float((unit @ unit.T).sum()) - fits) / (fits * (fits - 1)))
    share = (len(parts) - 2) * (1 - sum(found) / len(found))
    return max(0.0, min(1.0, share))


def _to_unit_spread(ranks: Tensor) -> Tensor:
    """With mean 0 and mean square 1; zeros if all are equal."""
    return F.normalize(ranks - ranks.mean(), dim=0, eps=_LEAST) * math.sqrt(len(ranks))
