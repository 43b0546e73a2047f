"""Thresholds on scores that keep a promise: so much of what is looked for is found, or is right.

A score is accepted if it is at least the threshold; NaN never is. All sums are float64.

The promise holds for scores like those that the threshold was set on: drawn in the same way, and
not used to train what makes the scores. N scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring.binomial import binomial_tail

_ROUNDING = 1e-12  # of a tail of the binomial distribution
ScoreValues: TypeAlias = Tensor | NDArray[Any] | Sequence[float]  # (N,)


@dataclass(frozen=True)
class RecallThreshold:
    """A threshold that finds at least the share `recall`, at the given confidence."""

    threshold: float  # accept scores from here on
    recall: float  # the promised share of positives at or above it
    confidence: float  # how often thresholds made like this one keep the promise, at least
    positives: int  # scores that it was set on
    k: int  # it is the k-th smallest of them

    def accepts(self, scores: ScoreValues) -> Tensor:
        """(N,) scores -> (N,) whether each is accepted; NaN is not."""
        return _at_least(scores, self.threshold)


@dataclass(frozen=True)
class PrecisionThreshold:
    """A threshold above which about the share `precision` is right; approximate.

    It holds at the share of positives that it was set on: where they are rarer, precision is less.
    """

    threshold: float  # accept scores from here on
    precision: float  # the wanted share of positives among what is accepted
    confidence: float
    bound: float  # the lower Wilson bound of the precision, at least `precision`
    accepted: int  # scores at or above the threshold, of `total`
    right: int  # positives among them
    positives: int  # of all
    total: int

    @property
    def prevalence(self) -> float:
        """The share of positives for which the threshold holds."""
        return self.positives / self.total

    @property
    def recall(self) -> float:
        """The share of the positives that was accepted; measured, not promised."""
        return self.right / self.positives

    def accepts(self, scores: ScoreValues) -> Tensor:
        """(N,) scores -> (N,) whether each is accepted; NaN is not."""
        return _at_least(scores, self.threshold)


def fewest_positives(recall: float, confidence: float = 0.95) -> int:
    """The fewest positives from which `recall_threshold` can promise anything.

    Even the lowest of n scores is a safe threshold only if 1 - recall^n >= confidence.

    Raises:
        ConfigError: a share that is not between 0 and 1.
    """
    _check_shares(recall=recall, confidence=confidence)
    miss = 1 - confidence
    fewest = max(1, math.ceil(math.log(miss) / math.log(recall)))
    while recall**fewest > miss:  # the two logarithms are rounded
        fewest += 1
    while fewest > 1 and recall ** (fewest - 1) <= miss:
        fewest -= 1
    return fewest


def recall_threshold(
    positive_scores: ScoreValues, recall: float, confidence: float = 0.95
) -> RecallThreshold:
    """The highest threshold that finds at least the share `recall` of such positives.

    It is the k-th smallest score, with the largest k for which P(Bin(N, 1 - recall) >= k) is at
    least the confidence. Exact for any distribution of scores; with ties it finds more.

    Args:
        positive_scores: (N,) scores of examples that should be found.
        recall: the share of them that must be found, between 0 and 1.
        confidence: the share of such thresholds that keep the promise, between 0 and 1.

    Raises:
        ConfigError: too few positives; the message says how many are missing. Or a share that is
            not between 0 and 1.
        NumericalError: a score that is NaN or infinite.

    Source: the distribution-free tolerance limit, Wilks 1941, Ann. Math. Statist. 12.
    """
    scores = to_scores(positive_scores, "positive_scores")
    fewest, n = fewest_positives(recall, confidence), len(scores)
    if n < fewest:
        raise ConfigError(
            f"a recall of {recall:g} at a confidence of {confidence:g} needs at least {fewest} "
            f"positive examples, got {n}: {fewest - n} are missing; add them, or ask for a lower "
            "recall or confidence."
        )
    k = max(1, _find_place(n, recall, confidence))
    threshold = float(scores.sort().values[k - 1])
    return RecallThreshold(threshold, recall, confidence, n, k)


def fewest_accepted(precision: float, confidence: float = 0.95) -> int:
    """The fewest accepted examples, all of them right, that can show a precision.

    Raises:
        ConfigError: a share that is not between 0 and 1.
    """
    z = _one_sided_z(precision, confidence)
    fewest = max(1, math.floor(z * z * precision / (1 - precision)))
    while fewest / (fewest + z * z) < precision:  # the Wilson bound of n of n
        fewest += 1
    return fewest


def precision_threshold(
    scores: ScoreValues, truth: ScoreValues, precision: float, confidence: float = 0.95
) -> PrecisionThreshold:
    """The lowest threshold whose precision has a one-sided Wilson bound of at least `precision`.

    The promise is approximate, because the threshold is chosen among many. The lowest threshold
    whose *measured* precision suffices would break it more often than not.

    Args:
        scores: (N,) scores of labelled examples, positive and negative.
        truth: (N,) whether each is positive; the share of positives should be that of later use.
        precision: the wanted share of positives among what is accepted, between 0 and 1.
        confidence: of the bound, between 0.5 and 1.

    Raises:
        ConfigError: no threshold reaches it, with the reason; or a share out of range.
        ShapeError: not one truth for each score.
        NumericalError: a score that is NaN or infinite.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22.
    """
    z = _one_sided_z(precision, confidence)
    values, positive = to_scores(scores, "scores"), to_truth(truth, scores)
    order = values.argsort(descending=True, stable=True)
    falling = values[order]
    right = positive[order].double().cumsum(0)
    accepted = torch.arange(1, len(falling) + 1, dtype=torch.float64)
    last = torch.ones(len(falling), dtype=torch.bool)  # equal scores are accepted together
    last[:-1] = falling[:-1] != falling[1:]
    bounds = _lower_wilson_bounds(right, accepted, z).masked_fill(~last, -math.inf)
    enough = (bounds >= precision).nonzero()[:, 0]
    if not len(enough):
        raise ConfigError(_explain_no_threshold(bounds, accepted, right, precision, confidence))
    place = int(enough[-1])
    return PrecisionThreshold(
        threshold=float(falling[place]),
        precision=precision,
        confidence=confidence,
        bound=float(bounds[place]),
        accepted=place + 1,
        right=int(right[place]),
        positives=int(positive.sum()),
        total=len(values),
    )


def to_scores(scores: ScoreValues, name: str) -> Tensor:
    """(N,) finite float64 scores.

    Raises:
        ShapeError: not one row of numbers.
        NumericalError: a score is NaN or infinite.
    """
    values = torch.as_tensor(scores).detach().cpu()
    if values.ndim != 1 or values.is_complex():
        raise ShapeError(f"{name} must be one row of numbers, got {tuple(values.shape)}.")
    values = values.double()
    if bad := (~values.isfinite()).nonzero()[:, 0].tolist():
        raise NumericalError(
            f"{len(bad)} of {len(values)} {name} are NaN or infinite, the first at {bad[0]}; "
            "leave these examples out, or find out why they have no score."
        )
    return values


def to_truth(truth: ScoreValues, scores: ScoreValues) -> Tensor:
    """(N,) bools, one for each score.

    Raises:
        ShapeError: another number of them, or values that are neither true nor false.
    """
    values = torch.as_tensor(truth).detach().cpu()
    if values.ndim != 1 or len(values) != len(scores):
        raise ShapeError(
            f"truth {tuple(values.shape)} must be one row with an entry for each of the "
            f"{len(scores)} scores."
        )
    if values.dtype != torch.bool and not bool(((values == 0) | (values == 1)).all()):
        raise ShapeError("truth must be true or false, or 1 or 0, for each score.")
    return values.bool()


def _at_least(scores: ScoreValues, threshold: float) -> Tensor:
    return torch.as_tensor(scores).double() >= threshold


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:  # NaN too
            raise ConfigError(f"{name} must be a share between 0 and 1, got {share!r}.")


def _one_sided_z(precision: float, confidence: float) -> float:
    _check_shares(precision=precision, confidence=confidence)
    if confidence < 0.5:
        raise ConfigError(
            f"the confidence of a precision must be at least 0.5, got {confidence!r}."
        )
    return NormalDist().inv_cdf(confidence)


@cache
def _find_place(n: int, recall: float, confidence: float) -> int:
    """The largest k for which P(Bin(n, 1 - recall) >= k) is at least the confidence."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if binomial_tail(middle, n, 1 - recall) >= confidence - _ROUNDING:
            low = middle
        else:
            high = middle - 1
    return low


def _lower_wilson_bounds(right: Tensor, accepted: Tensor, z: float) -> Tensor:
    share, over = right / accepted, z * z / accepted
    spread = z * (share * (1 - share) / accepted + over / (4 * accepted)).sqrt()
    return (share + over / 2 - spread) / (1 + over)


def _explain_no_threshold(
    bounds: Tensor, accepted: Tensor, right: Tensor, precision: float, confidence: float
) -> str:
    what = f"a precision of {precision:g} at a confidence of {confidence:g}"
    if not len(bounds):
        return f"{what} needs labelled examples, got none."
    best = int(bounds.argmax())
    fewest = fewest_accepted(precision, confidence)
    return (
        f"no threshold shows {what}: the best one has {int(right[best])} right of "
        f"{int(accepted[best])}, which shows {max(float(bounds[best]), 0):.3f}. It takes at least "
        f"{fewest} accepted examples, all of them right; add labelled examples, or ask for less."
    )
