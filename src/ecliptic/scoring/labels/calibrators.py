"""Calibration for the labels of one user, fitted on a handful of labelled images.

Temperature scaling makes one softmax softer or sharper, with or without a level that stands for
"none of these". Platt scaling and isotonic regression give each label a probability of its own, by
a curve that all labels share or one curve per label; they serve several labels per image too.
`ecliptic.scoring.Calibration`, which the card of a model has, is fitted on many questions and
serves any labels.

A temperature is fitted on logits, such as exp(logit_scale) * cosine; a curve on `log_odds` of them
where exactly one label is right, else on the logits themselves. N images, L labels.
Source: Guo et al. 2017, arXiv:1706.04599; Platt 1999, "Probabilistic outputs for support vector
machines"; Zadrozny & Elkan 2002, "Transforming classifier scores into accurate multiclass
probability estimates".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.calibration import SMALLEST, answer_targets, likelihood_with_none
from ecliptic.scoring.labels.isotonic import Isotonic, fit_isotonic
from ecliptic.scoring.labels.reliability import NONE
from ecliptic.scoring.minimising import Curvature, minimise_convex

LabelCurve = TypeVar("LabelCurve")


@dataclass(frozen=True)
class Temperature:
    """One softmax over all labels, of logits that are divided by `value`."""

    value: float

    def __post_init__(self) -> None:
        _check_temperature(self.value)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, L) logits -> (N, L) probabilities; each row adds up to 1."""
        return (logits.double() / self.value).softmax(dim=-1)


@dataclass(frozen=True)
class OpenTemperature:
    """A softmax over all labels and "none of these", of logits that are divided by `value`."""

    value: float
    level: float  # the logit of "none of these", the same for all images

    def __post_init__(self) -> None:
        _check_temperature(self.value)
        if not math.isfinite(self.level):
            raise ConfigError(f'the level of "none of these" must be finite, got {self.level!r}.')

    def probabilities(self, logits: Tensor) -> Tensor:
        """(N, L) logits -> (N, L) probabilities; what a row lacks to 1 is "none of these"."""
        z = torch.nn.functional.pad(logits.double(), (0, 1), value=self.level)
        return (z / self.value).softmax(dim=-1)[:, :-1]


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


def fit_temperature(logits: Tensor, truth: Tensor, *, towards: float | None = None) -> Temperature:
    """The temperature with the largest likelihood of the right labels.

    With `towards`, that temperature counts as much as one more example: the penalty on the ratio
    r = towards / temperature is r - 1 - ln r in all, the exponent of a gamma distribution of 1 /
    temperature that is highest at 1 / towards. So a few examples move the temperature a little,
    and a few that are all right do not make the probabilities certain.

    Args:
        logits: (N, L).
        truth: (N,) places of the right labels.
        towards: the temperature to stay near, such as 1 for the model's own.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: the right labels do not have the higher logits; or, without `towards`, they
            all have the highest, so that no temperature is the best.
    """
    z = logits.double()
    check_truth(z, truth)
    own = z.gather(1, truth[:, None])[:, 0]
    if towards is None and bool((own == z.max(dim=1).values).all()):
        raise ConfigError(
            f"all {len(z)} right labels have the highest score, so the likelihood grows without "
            "end as the temperature falls; add examples with wrong answers, or pass towards=1.0."
        )
    if float((own - z.mean(dim=1)).mean()) <= 0:
        raise ConfigError(
            "the scores of right labels are not higher than those of wrong ones, so no temperature "
            "helps; check the labels of the examples, or use another model or other label texts."
        )
    size = float(z.std()) or 1.0

    def measure(at: Tensor) -> Curvature:
        scaled = z / size
        shares = (at[0] * scaled).softmax(dim=1)
        mean = (shares * scaled).sum(dim=1)
        square = (shares * scaled.square()).sum(dim=1)
        value = ((at[0] * scaled).logsumexp(dim=1) - at[0] * own / size).mean()
        slope = (mean - own / size).mean()
        found = value, slope[None], (square - mean.square()).mean()[None, None]
        return found if towards is None else _penalised(found, at, towards / size, len(z))

    start = torch.tensor([size / towards if towards else 1.0], dtype=torch.float64)
    factor = float(minimise_convex(measure, start)[0]) / size
    return Temperature(max(1 / factor, SMALLEST))


def fit_open_temperature(logits: Tensor, truth: Tensor, *, towards: float) -> OpenTemperature:
    """Temperature and level of "none of these" with the largest likelihood.

    Args:
        logits: (N, L).
        truth: (N,) places of the right labels, or `NONE`; both must be there.
        towards: the temperature to stay near, as in `fit_temperature`.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: none of one of the two kinds.
    """
    z, known = logits.double(), truth != NONE
    if truth.shape != z.shape[:1] or bool(known.all()):
        raise ConfigError('a level of "none of these" needs examples of it, got none.')
    check_truth(z[known], truth[known])
    size, targets = float(z.std()) or 1.0, answer_targets(z, truth)

    def measure(at: Tensor) -> Curvature:
        found = likelihood_with_none(z / size, targets, at)
        return _penalised(found, at, towards / size, len(z))

    factor = size / towards
    start = torch.tensor(
        [factor, float(z.max(dim=1).values.mean()) / towards, 0.0], dtype=torch.float64
    )
    factor, level, _ = minimise_convex(measure, start).tolist()
    value = max(size / factor, SMALLEST)
    return OpenTemperature(value, level * value)


def fit_platt(scores: Tensor, truth: Tensor, *, smooth: bool = True) -> Platt:
    """Platt's curve with the largest likelihood.

    Args:
        scores: (N,).
        truth: (N,) whether each is positive.
        smooth: with Platt's targets (P + 1) / (P + 2) and 1 / (Q + 2) for P positives and Q
            negatives, in place of 1 and 0.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: only positives or only negatives; scores of positives that are not higher; or,
            unless `smooth`, a score that parts them without a mistake, so that no curve is the
            best.
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
    if slope <= 0:
        raise ConfigError(
            "the scores of right labels are not higher than those of wrong ones, so no rising "
            "curve fits; check the labels of the examples, or use another model or other label "
            "texts."
        )
    slope = slope / float(size)
    return Platt(slope, offset - slope * float(middle))


def fit_platt_scaling(
    scores: Tensor,
    truth: Tensor,
    *,
    per_label: bool = False,
    smooth: bool = True,
    names: Sequence[str] = (),
) -> PlattScaling:
    """Platt's curve for the pairs of all images and labels, or one for each label.

    Args:
        scores: (N, L): `log_odds` where exactly one label is right, else logits or cosines.
        truth: (N, L) whether each label is right.
        per_label: a curve for each label.
        smooth: as in `fit_platt`.
        names: of the labels, for errors about one of them.

    Raises:
        ShapeError, ConfigError: as `fit_platt`.
    """
    fit = partial(fit_platt, smooth=smooth)
    return PlattScaling(_fit_curves(fit, scores, truth, names, per_label=per_label))


def fit_isotonic_scaling(
    scores: Tensor,
    truth: Tensor,
    *,
    per_label: bool = False,
    smooth: bool = True,
    names: Sequence[str] = (),
) -> IsotonicScaling:
    """An isotonic curve for the pairs of all images and labels, or one for each label.

    Args and errors are those of `fit_platt_scaling`; `smooth` is that of `fit_isotonic`. It needs
    more than 1,000 images to be better than Platt's curve (Niculescu-Mizil & Caruana 2005).
    """
    fit = partial(fit_isotonic, smooth=smooth)
    return IsotonicScaling(_fit_curves(fit, scores, truth, names, per_label=per_label))


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


def _check_temperature(value: float) -> None:
    if not (math.isfinite(value) and value >= SMALLEST):
        raise ConfigError(f"a temperature must be {SMALLEST} or more, got {value!r}.")


def _penalised(found: Curvature, at: Tensor, scale: float, n: int) -> Curvature:
    """A mean over `n` examples with the penalty r - 1 - ln r on r = scale * at[0]."""
    value, slope, bend = found[0], found[1].clone(), found[2].clone()
    ratio = scale * at[0]
    slope[0] += scale * (1 - 1 / ratio) / n
    bend[0, 0] += (scale / ratio) ** 2 / n
    return value + (ratio - 1 - ratio.log()) / n, slope, bend


def _fit_curves(
    fit: Callable[[Tensor, Tensor], LabelCurve],
    scores: Tensor,
    truth: Tensor,
    names: Sequence[str],
    *,
    per_label: bool,
) -> tuple[LabelCurve, ...]:
    if scores.ndim != 2 or scores.shape != truth.shape:
        raise ShapeError(
            f"scores {tuple(scores.shape)} and truth {tuple(truth.shape)} must both be (N, L)."
        )
    if not per_label:
        return (fit(scores.reshape(-1), truth.reshape(-1)),)
    curves: list[LabelCurve] = []
    for place, (z, y) in enumerate(zip(scores.T, truth.T, strict=True)):
        try:
            curves.append(fit(z, y))
        except ConfigError as error:
            name = repr(names[place]) if names else str(place)
            raise ConfigError(f"label {name}: {error}") from None
    return tuple(curves)


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
