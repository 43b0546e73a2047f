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

from ecliptic.scoring.ratings.ridge import check_rated, reduce_width
from ecliptic.scoring.similarity import Rows

STRENGTHS = tuple(10.0**step for step in range(2, -4, -1))  # strongest first
_ROUNDS, _HALVINGS, _CLOSE = 50, 30, 1e-10


@dataclass(frozen=True)
class ChoiceFit:
    """A direction that orders vectors as people choose, and how it orders pairs it has not seen."""

    weight: Tensor  # (E,) float64
    alpha: float
    margins: Tensor  # (P,) w.(preferred - other), fitted without the fold of the pair


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
    marks = torch.arange(len(folds))  # differ, as ratings must
    one, other = (check_rated(rows, marks, folds)[0] for rows in (preferred, others))
    basis, pairs = reduce_width(one - other)
    path = _solve_path(pairs, alphas, torch.zeros(len(alphas), pairs.shape[1]).double())
    names = torch.unique(folds).tolist()

    def fit_others(*left: int) -> Tensor:
        seen = torch.isin(folds, torch.tensor(left), invert=True)
        return _solve_path(pairs[seen], alphas, path)

    losses = {fold: torch.zeros(len(alphas)).double() for fold in names}  # without it at all
    for first, second in combinations(names, 2):
        fitted = fit_others(first, second)
        losses[second] += _lose(pairs[folds == first] @ fitted.T)
        losses[first] += _lose(pairs[folds == second] @ fitted.T)
    margins = torch.empty(len(pairs), dtype=torch.float64)
    total = torch.zeros(len(alphas), dtype=torch.float64)
    for fold in names:
        found = pairs[folds == fold] @ fit_others(fold).T  # (p, A)
        total += _lose(found)
        margins[folds == fold] = found[:, losses[fold].argmin()]
    best = int(total.argmin())
    weight = path[best] if basis is None else basis @ path[best]
    return ChoiceFit(weight, alphas[best], margins)


def _lose(margins: Tensor) -> Tensor:
    """(p, A) margins -> (A,) negative log likelihoods."""
    return F.softplus(-margins).sum(0)


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
