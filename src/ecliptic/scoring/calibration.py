"""A temperature and a level for "none of these", fitted on images that a model has not seen.

A softmax over the labels of a user adds up to 1 on any picture, so a model that was trained with
one is sure of nonsense too. With a calibration, one more label stands beside them, whose cosine is
the same for all pictures. N questions, L labels.
Source: Guo et al. 2017, arXiv:1706.04599 (temperature, calibration error); the class of unknown
things as one more logit follows Bendale & Boult 2016, arXiv:1511.06233.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError

NONE = -1  # the answer of a question whose labels are all wrong
NONE_OF_THESE = "none of these"  # the name of that answer, for people
BINS = 15  # of the calibration error, of equal width (Guo et al., section 2)
_ROUNDS, _HALVINGS = 100, 40  # steps of the search, and of one step
_CLOSE = 1e-9  # size of the last step, relative


@dataclass(frozen=True)
class Calibration:
    """How sure a model may be.

    Probabilities are a softmax over cosine / temperature of the labels and of "none of these".
    """

    temperature: float  # the divisor of cosines
    none: float  # the cosine of "none of these"
    data: str = ""  # what it was fitted on, for people

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(
                f"the temperature of a calibration must be above 0, got {self.temperature!r}."
            )
        if not -1 <= self.none <= 1:
            raise ConfigError(
                f'the level of "none of these" is a cosine from -1 to 1, got {self.none!r}.'
            )

    def probabilities(self, cosines: Tensor) -> Tensor:
        """(I, L) cosines -> (I, L) probabilities; what a row lacks to 1 is "none of these"."""
        none = torch.full_like(cosines[..., :1], self.none)
        both = torch.cat([cosines, none], dim=-1) / self.temperature
        return both.softmax(dim=-1)[..., :-1]


def add_none(probabilities: Tensor) -> Tensor:
    """(I, L) probabilities -> (I, L + 1), with that of "none of these" last."""
    rest = (1 - probabilities.sum(dim=-1, keepdim=True)).clamp(min=0)
    return torch.cat([probabilities, rest], dim=-1)


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and how good the probabilities of the same questions are with it.

    The numbers without it are those of a softmax over the labels alone; a question whose labels
    are all wrong then counts as a wrong answer, and has no likelihood.
    """

    calibration: Calibration
    questions: int
    likelihood: float  # mean negative log likelihood, in nats
    error: float  # expected calibration error
    plain_error: float  # the same without the calibration
    separation: float  # share of pairs of a right and a wrong question that the best cosine orders


def fit_calibration(
    cosines: Tensor, answers: Tensor, scale: float, data: str = ""
) -> CalibrationFit:
    """Fit temperature and level by the likelihood of the answers.

    Args:
        cosines: (N, L) of an image with the labels of its question; -inf where it has fewer.
        answers: (N,) the right label of each question, or `NONE`.
        scale: exp(logit_scale) of the model, where the search begins.
        data: what the questions were made of.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: no question with a right label, none without, or cosines that tell nothing.
    """
    cosines, answers = cosines.double(), answers.long()
    if cosines.ndim != 2 or answers.shape != cosines.shape[:1]:
        raise ShapeError(
            f"cosines {tuple(cosines.shape)} must be (N, L) and answers {tuple(answers.shape)} "
            "(N,), one for each row."
        )
    unknown = answers == NONE
    if bool(unknown.all()) or not bool(unknown.any()):
        raise ConfigError(
            'a calibration needs questions with a right label, and others where "none of these" '
            f"is right; got {int((~unknown).sum())} and {int(unknown.sum())}."
        )
    factor, level = _maximise(cosines, answers, scale)
    if factor <= 0:
        raise ConfigError(
            "the cosines of right labels are no higher than those of wrong ones, so no calibration "
            "helps; train the model, or check the answers."
        )
    calibration = Calibration(1 / factor, min(max(level / factor, -1.0), 1.0), data)
    likelihood, _, _ = _likelihood(cosines, answers, torch.tensor([factor, level]).double())
    best = cosines.max(dim=-1).values
    return CalibrationFit(
        calibration,
        len(answers),
        float(likelihood),
        calibration_error(calibration.probabilities(cosines), answers),
        calibration_error((scale * cosines).softmax(dim=-1), answers),
        _order_share(best[~unknown], best[unknown]),
    )


def calibration_error(probabilities: Tensor, answers: Tensor, bins: int = BINS) -> float:
    """The expected calibration error of the best answer of each row.

    Args:
        probabilities: (N, L); what a row lacks to 1 is "none of these", which may be the best.
        answers: (N,) the right label, or `NONE`.
        bins: of equal width.
    """
    sure, best = add_none(probabilities).max(dim=-1)
    right = (best == torch.where(answers == NONE, probabilities.shape[1], answers)).double()
    place = (sure * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add(0, place, right - sure.double())
    return float(gaps.abs().sum() / len(answers))


def _maximise(cosines: Tensor, answers: Tensor, scale: float) -> tuple[float, float]:
    """The factor of cosines and the logit of "none of these" of the largest likelihood.

    The negative log likelihood is convex in both, so Newton's steps, halved while they do not
    help, find its only minimum.
    """
    at = torch.tensor([scale, scale * float(cosines.max(dim=-1).values.mean())]).double()
    value, slope, bend = _likelihood(cosines, answers, at)
    for _ in range(_ROUNDS):
        step = torch.linalg.solve(bend + 1e-12 * torch.eye(2, dtype=bend.dtype), slope)
        for _ in range(_HALVINGS):
            found = _likelihood(cosines, answers, at - step)
            if found[0] <= value:
                break
            step = step / 2
        else:
            break
        at, (value, slope, bend) = at - step, found
        if bool(step.abs().max() < _CLOSE * at.abs().max()):
            break
    return float(at[0]), float(at[1])


def _likelihood(cosines: Tensor, answers: Tensor, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean negative log likelihood, its gradient (2,) and its second derivatives (2, 2)."""
    factor, level = at
    missing = cosines.isneginf()
    known = cosines.masked_fill(missing, 0)
    logits = torch.cat(
        [(factor * known).masked_fill(missing, -torch.inf), level.expand(len(known), 1)], 1
    )
    shares = logits.softmax(dim=-1)
    none = shares[:, -1]
    unknown = answers == NONE
    targets = torch.where(unknown, cosines.shape[1], answers)[:, None]
    value = -logits.log_softmax(dim=-1).gather(1, targets).mean()
    mean = (shares[:, :-1] * known).sum(dim=-1)
    square = (shares[:, :-1] * known.square()).sum(dim=-1)
    own = known.gather(1, answers.clamp(min=0)[:, None])[:, 0].masked_fill(unknown, 0)
    slope = torch.stack([(mean - own).mean(), (none - unknown.double()).mean()])
    mixed = -(mean * none).mean()
    bend = [(square - mean.square()).mean(), mixed, mixed, (none * (1 - none)).mean()]
    return value, slope, torch.stack(bend).view(2, 2)


def _order_share(higher: Tensor, lower: Tensor) -> float:
    """The share of pairs in which the first is larger; ties count half (AUROC)."""
    ordered = lower.sort().values
    below = torch.searchsorted(ordered, higher).double()
    to = torch.searchsorted(ordered, higher, right=True).double()
    return float((below + to).mean() / 2 / len(ordered))
