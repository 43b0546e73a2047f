"""A temperature and a level for "none of these", fitted on images that a model has not seen.

A softmax over the labels of a user adds up to 1 on any picture, so a model that was trained with
one is sure of nonsense too. With a calibration, one more label stands beside them, whose cosine is
the same for all pictures. N questions, L labels.

The card of a model holds such a calibration, which serves any labels. `labels/calibrators.py` fits
what serves the labels of one user.
Source: Guo et al. 2017, arXiv:1706.04599 (temperature, calibration error); the class of unknown
things as one more logit follows Bendale & Boult 2016, arXiv:1511.06233.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.labels.detection import auroc
from ecliptic.scoring.labels.reliability import BINS, NONE, add_none, reliability_bins
from ecliptic.scoring.minimising import Curvature, minimise_convex
from ecliptic.scoring.similarity import Rows, to_tensor

NONE_OF_THESE = "none of these"  # the name of that answer, for people
SMALLEST = 1e-4  # temperature; that of a scale of 10,000


@dataclass(frozen=True)
class Calibration:
    """How sure a model may be.

    Probabilities are a softmax over cosine / temperature of L labels and none / temperature +
    growth ln L of "none of these": the more labels there are, the closer the best of them comes
    to any picture.
    """

    temperature: float  # the divisor of cosines
    none: float  # the cosine that stands for "none of these" beside one label
    growth: float = 0.0  # of its logit, with ln L
    data: str = ""  # what it was fitted on, for people

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= SMALLEST):
            raise ConfigError(
                f"the temperature of a calibration must be {SMALLEST} or more, got "
                f"{self.temperature!r}."
            )
        if not -1 <= self.none <= 1:
            raise ConfigError(
                f'the level of "none of these" is a cosine from -1 to 1, got {self.none!r}.'
            )
        if not math.isfinite(self.growth):
            raise ConfigError(f"the growth of a calibration must be finite, got {self.growth!r}.")

    def probabilities(self, cosines: Rows) -> Tensor:
        """(I, L) cosines -> (I, L) probabilities; what a row lacks to 1 is "none of these".

        A cosine of -inf is a label that is not there.
        """
        z = to_tensor(cosines)
        counts = (~z.isneginf()).sum(dim=-1, keepdim=True).clamp(min=1)
        none = self.none / self.temperature + self.growth * counts.to(z.dtype).log()
        return torch.cat([z / self.temperature, none], dim=-1).softmax(dim=-1)[..., :-1]


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
    unknown = answers == NONE
    _check_questions(cosines, answers, unknown)
    best = cosines.max(dim=-1).values
    separation = auroc(best[~unknown], best[unknown])
    targets = answer_targets(cosines, answers)
    at = _maximise(cosines, targets, scale)
    factor, level, growth = at.tolist()
    if factor <= 0 or separation <= 0.5 or abs(level) > factor:
        raise ConfigError(
            "the cosines of right labels are hardly higher than those of wrong ones, so no "
            "calibration helps; train the model, or check the answers."
        )
    calibration = Calibration(1 / factor, level / factor, growth, data)
    likelihood, _, _ = likelihood_with_none(cosines, targets, at)
    return CalibrationFit(
        calibration,
        len(answers),
        float(likelihood),
        calibration_error(calibration.probabilities(cosines), answers),
        calibration_error((scale * cosines).softmax(dim=-1), answers),
        separation,
    )


def _check_questions(cosines: Tensor, answers: Tensor, unknown: Tensor) -> None:
    if cosines.ndim != 2 or answers.shape != cosines.shape[:1]:
        raise ShapeError(
            f"cosines {tuple(cosines.shape)} must be (N, L) and answers {tuple(answers.shape)} "
            "(N,), one for each row."
        )
    if bool(unknown.all()) or not bool(unknown.any()):
        raise ConfigError(
            'a calibration needs questions with a right label, and others where "none of these" '
            f"is right; got {int((~unknown).sum())} and {int(unknown.sum())}."
        )
    places = answers[~unknown]
    if int(places.min()) < 0 or int(places.max()) >= cosines.shape[1]:
        raise ConfigError(f"answers must be places from 0 to {cosines.shape[1] - 1}, or {NONE}.")
    own = cosines[~unknown].gather(1, places[:, None])
    usable = cosines.isfinite() | cosines.isneginf()
    if not bool(usable.all()) or not bool(own.isfinite().all()):
        raise ConfigError(
            "cosines must be finite, or -inf for a label that is not there, but not for the right "
            "one; the model may be damaged."
        )


def calibration_error(probabilities: Tensor, answers: Tensor, bins: int = BINS) -> float:
    """The expected calibration error of the best answer of each row, "none of these" among them.

    Args:
        probabilities: (N, L); what a row lacks to 1 is "none of these", which may be the best.
        answers: (N,) the right label, or `NONE`.
        bins: of equal width.
    """
    sure, best = add_none(probabilities).max(dim=-1)
    right = best == torch.where(answers == NONE, probabilities.shape[1], answers)
    return reliability_bins(sure, right, bins).expected_error


def answer_targets(cosines: Tensor, answers: Tensor) -> Tensor:
    """(N, L + 1) 1 for the right answer and 0 for the others, that of "none of these" last."""
    count = cosines.shape[1]
    place = torch.where(answers == NONE, count, answers)[:, None]
    empty = torch.zeros(len(answers), count + 1, dtype=torch.float64)
    return empty.scatter_(1, place, 1.0)


def _maximise(cosines: Tensor, targets: Tensor, scale: float) -> Tensor:
    """(3,): the factor of cosines, and level and growth of the logit of "none of these".

    They have the largest likelihood, whose negative logarithm is convex in all three. Where all
    questions have equally many labels, the growth stays 0.
    """
    level = scale * float(cosines.max(dim=-1).values.mean())
    start = torch.tensor([scale, level, 0.0], dtype=torch.float64)
    return minimise_convex(lambda at: likelihood_with_none(cosines, targets, at), start)


def likelihood_with_none(cosines: Tensor, targets: Tensor, at: Tensor) -> Curvature:
    """The mean negative log likelihood, its gradient (3,) and its second derivatives (3, 3).

    Args:
        cosines: (N, L), or other scores; -inf for a label that is not there.
        targets: (N, L + 1) of `answer_targets`.
        at: (3,) the factor of cosines, and level and growth of the logit of "none of these".
    """
    missing = cosines.isneginf()
    counts = (~missing).sum(dim=-1).double().clamp(min=1).log()
    rise = counts if bool((counts != counts[0]).any()) else torch.zeros_like(counts)
    known = cosines.masked_fill(missing, 0)
    labels = (at[0] * known).masked_fill(missing, -torch.inf)
    logits = torch.cat([labels, (at[1] + at[2] * rise)[:, None]], dim=1)
    shares = logits.softmax(dim=-1)
    logs = torch.where(targets > 0, logits.log_softmax(dim=-1), 0)
    value = -(targets * logs).sum(dim=-1).mean()
    # what multiplies the three: the cosine of a label, and 1 and the rise of "none of these"
    none, ones = shares[:, -1], torch.ones_like(rise)
    mean = (shares[:, :-1] * known).sum(dim=-1)
    square = (shares[:, :-1] * known.square()).sum(dim=-1)
    over = none - targets[:, -1]
    wanted = (targets[:, :-1] * known).sum(dim=-1)
    slope = torch.stack([mean - wanted, over, over * rise]).mean(dim=1)
    tails = torch.stack([ones, rise])  # (2, N)
    bend = torch.empty(3, 3, dtype=torch.float64)
    bend[0, 0] = (square - mean.square()).mean()
    bend[0, 1:] = bend[1:, 0] = -(tails * (mean * none)).mean(dim=1)
    bend[1:, 1:] = tails @ (tails * (none * (1 - none))).T / len(none)
    return value, slope, bend
