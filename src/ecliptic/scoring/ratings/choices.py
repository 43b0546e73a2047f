"""Logistic regression of choices between two vectors, its strength by cross-validation.

P(a is preferred to b) = 1 / (1 + exp(-w.(a - b))): the model of Bradley & Terry with scores that
are linear in the vectors. w makes sum ln(1 + exp(-w.(a - b))) + alpha/2 |w|^2 smallest. P pairs,
E vector size. Source: Bradley & Terry 1952, "Rank analysis of incomplete block designs".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ShapeError
from ecliptic.scoring.ratings.bounds import noise_share
from ecliptic.scoring.ratings.ridge import check_rated, reduce_width
from ecliptic.scoring.similarity import Rows

STRENGTHS = tuple(10.0**step for step in range(2, -4, -1))  # strongest first
_ROUNDS, _HALVINGS, _CLOSE = 50, 30, 1e-10


@dataclass(frozen=True)
class HeldOutChoices:
    """What fits give on the pairs of the fold that each of them has not seen."""

    alpha: float  # strength that is best for all folds
    margins: Tensor  # (P,) w.(preferred - other), fitted without the fold of the pair
    noise: float  # share of the margins that is noise, 0 to 1


@dataclass(frozen=True)
class ChoiceFit(HeldOutChoices):
    """A direction that orders vectors as people choose, and how it orders pairs it has not seen."""

    weight: Tensor  # (E,) float64


def fit_choices(
    preferred: Rows, others: Rows, folds: Tensor, alphas: Sequence[float] = STRENGTHS
) -> ChoiceFit:
    """Fit choices with the strength that predicts pairs of other folds best.

    Args:
        preferred: (P, E) the vector that was chosen in each pair.
        others: (P, E) the vector that was not.
        folds: (P,) the part of each pair; a part is tested with a fit of the others.
        alphas: strengths of the penalty to choose from, each above 0.

    Raises:
        ShapeError: shapes that do not fit.
        NumericalError: NaN or infinity.
        ConfigError: fewer than three folds.
    """
    basis, pairs = _subtract(preferred, others, folds)
    path = _solve_path(pairs, alphas, torch.zeros(len(alphas), pairs.shape[1]).double())
    found = _cross_validate(pairs, folds, alphas, path, torch.ones_like(folds, dtype=torch.bool))
    weight = path[list(alphas).index(found.alpha)]
    return ChoiceFit(**vars(found), weight=weight if basis is None else basis @ weight)


def cross_choose(
    preferred: Rows,
    others: Rows,
    folds: Tensor,
    used: Tensor,
    alphas: Sequence[float] = STRENGTHS,
) -> HeldOutChoices:
    """Test each pair by fits of the `used` (P,) pairs of the other folds."""
    pairs = _subtract(preferred, others, folds)[1]
    path = _solve_path(pairs[used], alphas, torch.zeros(len(alphas), pairs.shape[1]).double())
    return _cross_validate(pairs, folds, alphas, path, used)


def _subtract(preferred: Rows, others: Rows, folds: Tensor) -> tuple[Tensor | None, Tensor]:
    """A basis, and the (P, E) differences in it; None, and the differences as they are."""
    marks = torch.arange(len(folds))  # differ, as ratings must
    one, other = (check_rated(rows, marks, folds)[0] for rows in (preferred, others))
    if one.shape != other.shape:
        raise ShapeError(
            f"the preferred vectors {tuple(one.shape)} and the others {tuple(other.shape)} must "
            "have one shape; encode both with one model."
        )
    return reduce_width(one - other)


def _cross_validate(
    pairs: Tensor, folds: Tensor, alphas: Sequence[float], path: Tensor, used: Tensor
) -> HeldOutChoices:
    """Test each fold by fits of the others, also in the choice of their strength."""
    names = torch.unique(folds).tolist()

    def fit_others(*left: int) -> Tensor:
        seen = torch.isin(folds, torch.tensor(left), invert=True)
        return _solve_path(pairs[seen & used], alphas, path)

    def lose(fold: int, margins: Tensor) -> Tensor:
        return F.softplus(-margins[used[folds == fold]]).sum(0)  # (A,)

    losses = {fold: torch.zeros(len(alphas)).double() for fold in names}  # without it at all
    apart: dict[int, list[Tensor]] = {fold: [] for fold in names}  # by fits without two folds
    for first, second in combinations(names, 2):
        fitted = fit_others(first, second)
        for tested, left in ((first, second), (second, first)):
            apart[tested].append(pairs[folds == tested] @ fitted.T)
            losses[left] += lose(tested, apart[tested][-1])
    margins = torch.empty(len(pairs), dtype=torch.float64)
    total = torch.zeros(len(alphas), dtype=torch.float64)
    noise = []
    for fold in names:
        found, best = pairs[folds == fold] @ fit_others(fold).T, losses[fold].argmin()  # (p, A)
        total += lose(fold, found)
        margins[folds == fold] = found[:, best]
        noise.append(torch.stack([rows[:, best] for rows in apart[fold]]))
    return HeldOutChoices(alphas[int(total.argmin())], margins, noise_share(noise))


def solve_choices(pairs: Tensor, alpha: float) -> Tensor:
    """(P, E) differences, the preferred minus the other -> the (E,) weight for one strength."""
    return _solve_path(pairs.double(), [alpha], torch.zeros(1, pairs.shape[1]).double())[0]


def _solve_path(pairs: Tensor, alphas: Sequence[float], starts: Tensor) -> Tensor:
    """(A, E) weights, each found from its start or from the one before, whichever is nearer."""
    found = list[Tensor]()
    for alpha, start in zip(alphas, starts, strict=True):
        nearest = min([start, *found[-1:]], key=lambda w: float(_loss(pairs, alpha, w)))
        found.append(_solve(pairs, alpha, nearest))
    return torch.stack(found)


def _solve(pairs: Tensor, alpha: float, weight: Tensor) -> Tensor:
    """The only minimum, by Newton's steps, halved while they do not help."""
    value = _loss(pairs, alpha, weight)
    ridge = alpha * torch.eye(len(weight), dtype=torch.float64)
    for _ in range(_ROUNDS):
        doubt = torch.sigmoid(-(pairs @ weight))  # (P,) probability of the other one
        slope = alpha * weight - pairs.T @ doubt
        bend = (pairs * (doubt * (1 - doubt))[:, None]).T @ pairs + ridge
        step = torch.linalg.solve(bend, slope)
        for _ in range(_HALVINGS):
            lower = _loss(pairs, alpha, weight - step)
            if lower <= value:
                break
            step = step / 2
        else:
            break
        weight, value = weight - step, lower
        if bool(step.norm() <= _CLOSE * weight.norm()):
            break
    return weight


def _loss(pairs: Tensor, alpha: float, weight: Tensor) -> Tensor:
    return F.softplus(-(pairs @ weight)).sum() + alpha / 2 * weight.square().sum()
