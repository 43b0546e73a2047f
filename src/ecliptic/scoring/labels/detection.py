"""How well one score tells positives from negatives: AUROC, FPR at a TPR, average precision.

A score that is NaN counts as wrong: of a positive it is below all others, of a negative above.
Source of the measures: Fawcett 2006, Pattern Recognition Letters 27; Hendrycks & Gimpel 2017,
arXiv:1610.02136, for the detection of what belongs to no label.
"""

import math

import torch
from torch import Tensor

from ecliptic.errors import ShapeError


def auroc(positive: Tensor, negative: Tensor) -> float:
    """The share of pairs of a positive and a negative that the score orders; ties count half.

    The area under the ROC curve; NaN if one of the two has no scores.
    """
    higher, lower = _finite(positive, -math.inf), _finite(negative, math.inf)
    if not len(higher) or not len(lower):
        return math.nan
    ordered = lower.sort().values
    below = torch.searchsorted(ordered, higher).double()
    to = torch.searchsorted(ordered, higher, right=True).double()
    return float((below + to).mean() / 2 / len(ordered))


def false_positive_rate(positive: Tensor, negative: Tensor, recall: float = 0.95) -> float:
    """The share of negatives at or above the highest threshold that finds `recall` of positives.

    With the default, "FPR at 95 % TPR"; NaN if one of the two has no scores.
    """
    higher, lower = _finite(positive, -math.inf), _finite(negative, math.inf)
    if not len(higher) or not len(lower):
        return math.nan
    needed = math.ceil(recall * len(higher) - 1e-9)
    threshold = higher.sort(descending=True).values[max(needed, 1) - 1]
    return float((lower >= threshold).double().mean())


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """The mean precision at the positives in falling order; equal scores are taken together.

    Args:
        scores: (N,).
        truth: (N,) whether each is positive.

    Returns:
        From 0 to 1; NaN without positives. CLIP_benchmark counts such a label as 0.

    Raises:
        ShapeError: not one truth for each score.

    Source: the sum over thresholds of (R_n - R_{n-1}) P_n, as in scikit-learn.
    """
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise ShapeError(
            f"scores {tuple(scores.shape)} and truth {tuple(truth.shape)} must both be (N,)."
        )
    positive = truth.bool()
    worst = torch.where(positive, -math.inf, math.inf).double()
    values = torch.where(scores.isnan(), worst, scores.double())
    if not bool(positive.any()):
        return math.nan
    falling, order = values.sort(descending=True)
    found = positive[order].double().cumsum(0)
    last = torch.ones(len(falling), dtype=torch.bool)
    last[:-1] = falling[:-1] != falling[1:]
    taken = torch.arange(1, len(falling) + 1, dtype=torch.float64)[last]
    at = found[last]
    gained = at.diff(prepend=torch.zeros(1, dtype=torch.float64))
    return float((gained * at / taken).sum() / at[-1])


def _finite(scores: Tensor, instead: float) -> Tensor:
    """(N,) float64 scores with `instead` in place of NaN."""
    values = scores.double()
    return torch.where(values.isnan(), instead, values)
