"""Calibration for the labels of one user, fitted on a handful of labelled images.

Temperature scaling makes one softmax softer or sharper. Platt scaling and isotonic regression give
each label a probability of its own, by a curve that all labels share or one curve per label; they
serve several labels per image too. `ecliptic.scoring.Calibration`, which the card of a model has,
is a temperature with a level for "none of these", fitted on many questions and for any labels.

A temperature is fitted on logits, such as exp(logit_scale) * cosine; a curve on `log_odds` of them
where exactly one label is right, else on the logits themselves. N images, L labels.
Source: Guo et al. 2017, arXiv:1706.04599; Platt 1999, "Probabilistic outputs for support vector
machines"; Zadrozny & Elkan 2002, "Transforming classifier scores into accurate multiclass
probability estimates".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.calibration import SMALLEST
from ecliptic.scoring.labels.isotonic import Isotonic, fit_isotonic
from ecliptic.scoring.minimising import Curvature, minimise_convex

LabelCurve = TypeVar("LabelCurve")


@dataclass(frozen=True)
class Temperature:
    """One softmax over all labels, of logits that are divided by `value`."""

    value: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.value >= SMALLEST):
            raise ConfigError(f"a temperature must be {SMALLEST} or more, got {self.value!r}.")

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, L) logits -> (N, L) probabilities; each row adds up to 1."""
        return (logits.double() / self.value).softmax(dim=-1)


@dataclass(frozen=True)
class Platt:
    """The probability 1 / (1 + exp(-(slope * score + offset)))."""

    slope: float
    offset: float

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores of any shape -> probabilities, float64."""
        return (self.slope * scores.double() + self.offset).sigmoid()


@dataclass(frozen=True)
class PlattScaling:
    """A probability for each label by Platt's curve."""

    curves: tuple[Platt, ...]  # one for all labels, or one for each

    def shares(self, scores: Tensor) -> Tensor:
        """(N, L) scores -> (N, L) probabilities of each label by itself."""
        return _apply(self.curves, scores)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, L) logits -> (N, L) probabilities; each row adds up to 1.

        The curves must be those of `log_odds`.
        """
        return _to_one(self.shares(log_odds(logits)))


@dataclass(frozen=True)
class IsotonicScaling:
    """A probability for each label by an isotonic curve."""

    curves: tuple[Isotonic, ...]  # one for all labels, or one for each

    def shares(self, scores: Tensor) -> Tensor:
        """(N, L) scores -> (N, L) probabilities of each label by itself."""
        return _apply(self.curves, scores)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, L) logits -> (N, L) probabilities; each row adds up to 1.

        The curves must be those of `log_odds`.
        """
        return _to_one(self.shares(log_odds(logits)))


Scaling: TypeAlias = Temperature | PlattScaling | IsotonicScaling


def log_odds(logits: Tensor) -> Tensor:
    """(N, L) logits -> (N, L) how far each is above all others together, float64.

    The logarithm of p / (1 - p) for a softmax p, also where p is rounded to 1.

    Raises:
        ShapeError: fewer than two labels.
    """
    z = logits.double()
    if z.ndim != 2 or z.shape[1] < 2:
        raise ShapeError(f"log odds need (N, L) logits of at least 2 labels, got {tuple(z.shape)}.")
    best, top = z.max(dim=1, keepdim=True)
    rest = z.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)  # without the best
    total = torch.logaddexp(best, rest)
    share = (z - total).exp().scatter(1, top, 0.0)  # at most 0.5
    return (z - total - (-share).log1p()).scatter(1, top, best - rest)


def fit_temperature(logits: Tensor, truth: Tensor, *, smooth: bool = False) -> Temperature:
    """The temperature with the largest likelihood of the right labels.

    Args:
        logits: (N, L).
        truth: (N,) places of the right labels.
        smooth: count one more example whose label is any of the L, in the manner of Platt's
            targets: the right label has the target (N + 1 / L) / (N + 1). Then a few examples
            that are all right do not make the probabilities certain.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: the right labels do not have the higher logits; or, unless `smooth`, they all
            have the highest, so that no temperature is the best.
    """
    z = logits.double()
    check_truth(z, truth)
    n, count = z.shape
    own = z.gather(1, truth[:, None])[:, 0]
    if not smooth and bool((own == z.max(dim=1).values).all()):
        raise ConfigError(
            f"all {n} right labels have the highest score, so the likelihood grows without end as "
            "the temperature falls; add examples with wrong answers, or pass smooth=True."
        )
    over = 1 / count / (n + 1) if smooth else 0.0  # the target of each wrong label
    wanted = (1 - over * count) * own + over * z.sum(dim=1)  # (N,) the mean logit by the targets
    size = float(z.std()) or 1.0

    def measure(at: Tensor) -> Curvature:
        scaled = z / size
        shares = (at[0] * scaled).softmax(dim=1)
        mean = (shares * scaled).sum(dim=1)
        square = (shares * scaled.square()).sum(dim=1)
        value = ((at[0] * scaled).logsumexp(dim=1) - at[0] * wanted / size).mean()
        slope = (mean - wanted / size).mean()
        return value, slope[None], (square - mean.square()).mean()[None, None]

    factor = float(minimise_convex(measure, torch.ones(1, dtype=torch.float64))[0]) / size
    if factor <= 0:
        raise ConfigError(
            "the scores of right labels are not higher than those of wrong ones, so no temperature "
            "helps; check the labels of the examples, or use another model or other label texts."
        )
    return Temperature(max(1 / factor, SMALLEST))


def fit_platt(scores: Tensor, truth: Tensor, *, smooth: bool = True) -> Platt:
    """Platt's curve with the largest likelihood.

    Args:
        scores: (N,).
        truth: (N,) whether each is positive.
        smooth: with Platt's targets (P + 1) / (P + 2) and 1 / (Q + 2) for P positives and Q
            negatives, in place of 1 and 0.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: only positives or only negatives; or, unless `smooth`, a score that parts
            them without a mistake, so that no curve is the best.
    """
    values, positive = scores.double(), truth.bool()
    check_both(values, positive)
    if not smooth and _are_parted(values[positive], values[~positive]):
        raise ConfigError(
            "the scores part positives and negatives without a mistake, so the likelihood grows "
            "without end; add examples, or pass smooth=True."
        )
    high, low = float(positive.sum()), float((~positive).sum())
    targets = positive.double()
    if smooth:
        targets = torch.where(positive, (high + 1) / (high + 2), 1 / (low + 2))
    middle, size = values.mean(), values.std().clamp(min=1e-12)
    x = torch.stack([(values - middle) / size, torch.ones_like(values)])  # (2, N)

    def measure(at: Tensor) -> Curvature:
        z = at @ x
        share = z.sigmoid()
        value = (torch.nn.functional.softplus(z) - targets * z).mean()
        return value, x @ (share - targets) / len(z), x @ (x * (share * (1 - share))).T / len(z)

    start = torch.tensor([1.0, math.log(high / low)], dtype=torch.float64)
    slope, offset = minimise_convex(measure, start).tolist()
    slope = slope / float(size)
    return Platt(slope, offset - slope * float(middle))


def fit_platt_scaling(
    scores: Tensor, truth: Tensor, *, per_label: bool = False, smooth: bool = True
) -> PlattScaling:
    """Platt's curve for the pairs of all images and labels, or one for each label.

    Args:
        scores: (N, L): `log_odds` where exactly one label is right, else logits or cosines.
        truth: (N, L) whether each label is right.
        per_label: a curve for each label.
        smooth: as in `fit_platt`.

    Raises:
        ShapeError, ConfigError: as `fit_platt`.
    """
    return PlattScaling(
        _fit_curves(lambda z, y: fit_platt(z, y, smooth=smooth), scores, truth, per_label)
    )


def fit_isotonic_scaling(
    scores: Tensor, truth: Tensor, *, per_label: bool = False, smooth: bool = True
) -> IsotonicScaling:
    """An isotonic curve for the pairs of all images and labels, or one for each label.

    Args and errors are those of `fit_platt_scaling`; `smooth` is that of `fit_isotonic`. It needs
    more than 1,000 images to be better than Platt's curve (Niculescu-Mizil & Caruana 2005).
    """
    return IsotonicScaling(
        _fit_curves(lambda z, y: fit_isotonic(z, y, smooth=smooth), scores, truth, per_label)
    )


def check_truth(logits: Tensor, truth: Tensor) -> None:
    """Raise unless logits (N, L) are finite, and truth (N,) places of labels, at least one."""
    if logits.ndim != 2 or truth.shape != logits.shape[:1] or truth.is_floating_point():
        raise ShapeError(
            f"logits {tuple(logits.shape)} must be (N, L) and truth {tuple(truth.shape)} of "
            f"{truth.dtype} (N,) places of labels."
        )
    if not len(truth):
        raise ConfigError("a calibration needs labelled images, got none.")
    if not 0 <= int(truth.min()) <= int(truth.max()) < logits.shape[1]:
        raise ConfigError(f"truth must be places from 0 to {logits.shape[1] - 1}.")
    if not bool(logits.isfinite().all()):
        raise ConfigError("logits must be finite; leave out the images without a vector.")


def check_both(scores: Tensor, positive: Tensor) -> None:
    """Raise unless scores (N,) are finite, with positives and negatives among them."""
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise ShapeError(
            f"scores {tuple(scores.shape)} and truth {tuple(positive.shape)} must both be (N,)."
        )
    if not bool(scores.isfinite().all()):
        raise ConfigError("scores must be finite; leave out the images without a vector.")
    if not (bool(positive.any()) and not bool(positive.all())):
        raise ConfigError(
            f"a calibration needs positive and negative examples, got {int(positive.sum())} and "
            f"{int((~positive).sum())}."
        )


def _fit_curves(
    fit: Callable[[Tensor, Tensor], LabelCurve], scores: Tensor, truth: Tensor, per_label: bool
) -> tuple[LabelCurve, ...]:
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ShapeError(
            f"scores {tuple(scores.shape)} and truth {tuple(truth.shape)} must both be (N, L)."
        )
    if not per_label:
        return (fit(scores.reshape(-1), truth.reshape(-1)),)
    return tuple(fit(z, y) for z, y in zip(scores.T, truth.T, strict=True))


def _apply(curves: Sequence[Callable[[Tensor], Tensor]], scores: Tensor) -> Tensor:
    if len(curves) == 1:
        return curves[0](scores)
    if len(curves) != scores.shape[1]:
        raise ShapeError(f"{len(curves)} curves need as many labels, got {scores.shape[1]}.")
    columns = zip(curves, scores.T, strict=True)
    return torch.stack([curve(column) for curve, column in columns], dim=1)


def _to_one(shares: Tensor) -> Tensor:
    """Rows that add up to 1; one without any probability says nothing, so all are equal."""
    total = shares.sum(dim=1, keepdim=True)
    return torch.where(total > 0, shares / total, 1 / shares.shape[1])


def _are_parted(positive: Tensor, negative: Tensor) -> bool:
    above = bool(positive.min() >= negative.max())
    return above or bool(positive.max() <= negative.min())
