"""How good probabilities are: reliability, calibration errors, Brier score and log loss.

N examples, L labels, B bins. The truth is the place of the right label, or `NONE` (-1) where all
labels are wrong; what a row of probabilities lacks to 1 is "none of these".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.errors import ShapeError

NONE = -1  # the answer of a question whose labels are all wrong
BINS = 15  # of equal width (Guo et al. 2017, arXiv:1706.04599, section 2)


@dataclass(frozen=True)
class Reliability:
    """Examples in bins of equal width by their confidence, which is the best probability.

    A diagram of `accuracies` over `confidences` is the diagonal for honest probabilities. Empty
    bins have 0 in both.
    """

    counts: tuple[int, ...]  # (B,)
    confidences: tuple[float, ...]  # (B,) mean confidence
    accuracies: tuple[float, ...]  # (B,) share of right answers

    @property
    def expected_error(self) -> float:
        """ECE: the mean gap between confidence and accuracy, weighted by the bins' counts.

        With few examples it is above 0 for honest probabilities too.
        """
        pairs = zip(self._shares(), self._gaps(), strict=True)
        return math.fsum(share * gap for share, gap in pairs)

    @property
    def largest_error(self) -> float:
        """MCE: the largest gap of a bin."""
        return max(self._gaps())

    def largest_error_of(self, fewest: int) -> float | None:
        """The largest gap of the bins with `fewest` examples or more; None if there is none."""
        pairs = zip(self.counts, self._gaps(), strict=True)
        return max((gap for count, gap in pairs if count >= fewest), default=None)

    @property
    def squared_error(self) -> float:
        """The root of the mean squared gap, weighted by the bins' counts ("l2" of torchmetrics)."""
        pairs = zip(self._shares(), self._gaps(), strict=True)
        return math.sqrt(math.fsum(share * gap * gap for share, gap in pairs))

    def _gaps(self) -> list[float]:
        pairs = zip(self.accuracies, self.confidences, strict=True)
        return [abs(accuracy - confidence) for accuracy, confidence in pairs]

    def _shares(self) -> list[float]:
        total = max(1, sum(self.counts))
        return [count / total for count in self.counts]


def reliability_bins(confidence: Tensor, right: Tensor, bins: int = BINS) -> Reliability:
    """Sort answers into bins of equal width, (0, 1/B], (1/B, 2/B], and so on.

    Args:
        confidence: (N,) from 0 to 1; NaN counts as 0.
        right: (N,) whether the answer is right.
        bins: their number, B.

    Raises:
        ShapeError: not one of each for each example.

    Source: Guo et al. 2017, section 2. torchmetrics puts a value on an edge into the upper bin.
    """
    if confidence.ndim != 1 or confidence.shape != right.shape:
        raise ShapeError(
            f"confidence {tuple(confidence.shape)} and right {tuple(right.shape)} must both be "
            "(N,)."
        )
    sure = confidence.double().nan_to_num(nan=0.0)
    place = (sure * bins).ceil().long().clamp(1, bins) - 1
    sums = torch.zeros(3, bins, dtype=torch.float64)
    rows = torch.stack([torch.ones_like(sure), sure, right.double()])
    counts, confidences, accuracies = sums.index_add(1, place, rows)
    least = counts.clamp(min=1)
    return Reliability(
        tuple(map(int, counts.tolist())),
        tuple((confidences / least).tolist()),
        tuple((accuracies / least).tolist()),
    )


def log_loss(probabilities: Tensor, truth: Tensor) -> float:
    """The mean negative logarithm of the probability of the right label, in nats (NLL).

    Args:
        probabilities: (N, L); a right label with probability 0 or NaN makes it infinite.
        truth: (N,) places of the right labels, or `NONE`.
    """
    chance = chances_of(probabilities, truth).nan_to_num(nan=0.0)
    return float(-chance.log().mean()) if len(chance) else math.nan


def brier_score(probabilities: Tensor, truth: Tensor) -> float:
    """The mean squared distance of the probabilities from 1 for the right label and 0 for others.

    From 0 to 2, over all labels, as Brier 1950 has it for several categories. "None of these" is
    one of the labels where the rows leave something for it.

    Args:
        probabilities: (N, L); rows with NaN count as 2, the worst.
        truth: (N,) places of the right labels, or `NONE`.
    """
    check_answers(probabilities, truth)
    if not len(truth):
        return math.nan
    rows = add_none(probabilities.double())
    target = torch.where(truth < 0, probabilities.shape[1], truth)
    right = torch.zeros_like(rows).scatter_(1, target[:, None], 1.0)
    return float((rows - right).square().sum(dim=1).nan_to_num(nan=2.0).mean())


def add_none(probabilities: Tensor) -> Tensor:
    """(N, L) probabilities -> (N, L + 1), with that of "none of these" last."""
    rest = (1 - probabilities.sum(dim=-1, keepdim=True)).clamp(min=0)
    return torch.cat([probabilities, rest], dim=-1)


def chances_of(probabilities: Tensor, truth: Tensor) -> Tensor:
    """(N,) probability of the right label of each row, which may be "none of these"."""
    check_answers(probabilities, truth)
    target = torch.where(truth < 0, probabilities.shape[1], truth)
    return add_none(probabilities.double()).gather(1, target[:, None])[:, 0]


def check_answers(values: Tensor, truth: Tensor) -> None:
    """Raise ShapeError unless `values` is (N, L) and `truth` (N,) places of labels, or -1."""
    if values.ndim != 2 or truth.shape != values.shape[:1] or truth.is_floating_point():
        raise ShapeError(
            f"values {tuple(values.shape)} must be (N, L) and truth {tuple(truth.shape)} of "
            f"{truth.dtype} (N,) places of labels."
        )
    if len(truth) and not -1 <= int(truth.min()) <= int(truth.max()) < values.shape[1]:
        raise ShapeError(f"truth must be places from 0 to {values.shape[1] - 1}, or -1 for none.")
