"""Ridge regression of ratings on vectors, in closed form, its strength by cross-validation.

score(x) = w.(x - mean x) + mean y, with the w that makes sum (y - score(x))^2 + alpha |w|^2
smallest. Centring keeps the penalty off the direction that all vectors of a model share. N rows,
E vector size, A strengths. Source: Hoerl & Kennard 1970, "Ridge regression".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.ratings.bounds import noise_share
from ecliptic.scoring.similarity import Rows, to_tensor

ALPHAS = tuple(10 ** (step / 2) for step in range(-8, 9))  # 1e-4 to 1e4
FEWEST_FOLDS = 3


@dataclass(frozen=True)
class HeldOutScores:
    """What fits give on the rows of the fold that each of them has not seen."""

    alpha: float  # strength that is best for all folds
    held_out: Tensor  # (N,) scores on the scale of the ratings
    comparable: Tensor  # (N,) the same order inside a fold, for measures across folds
    means: Tensor  # (N,) the mean rating of the other folds: what guessing gives
    noise: float  # share of the scores that is noise, 0 to 1


@dataclass(frozen=True)
class RidgeFit(HeldOutScores):
    """A map from vectors to ratings, and what it gives on rows that it has not seen."""

    weight: Tensor  # (E,) float64
    bias: float


@dataclass(frozen=True)
class _Moments:
    """The sums over some rows that a fit needs; those of two parts are added."""

    count: int
    x: Tensor  # (E,)
    y: Tensor  # ()
    xx: Tensor  # (E, E)
    xy: Tensor  # (E,)

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> "_Moments":
        return cls(len(x), x.sum(0), y.sum(), x.T @ x, x.T @ y)

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.count + other.count,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
        )

    def solve(self, alphas: Sequence[float]) -> tuple[Tensor, Tensor]:
        """(A, E) weights and (A,) biases."""
        mean, rating = self.x / self.count, self.y / self.count
        spread, basis = torch.linalg.eigh(self.xx - self.count * mean.outer(mean))
        slopes = basis.T @ (self.xy - self.count * rating * mean)  # (E,)
        strengths = torch.tensor(alphas, dtype=torch.float64)[:, None]
        weights = (slopes / (spread.clamp(min=0) + strengths)) @ basis.T
        return weights, rating - weights @ mean


def fit_ridge(
    vectors: Rows, ratings: Tensor, folds: Tensor, alphas: Sequence[float] = ALPHAS
) -> RidgeFit:
    """Fit ratings with the strength that predicts rows of other folds best.

    Args:
        vectors: (N, E).
        ratings: (N,).
        folds: (N,) the part of each row; a part is tested with a fit of the others.
        alphas: strengths of the penalty to choose from, each above 0.

    Raises:
        ShapeError: shapes that do not fit.
        NumericalError: NaN or infinity.
        ConfigError: fewer than three folds, or all ratings are equal.
    """
    x, y = check_rated(vectors, ratings, folds)
    basis, z = reduce_width(x)
    found = _cross_validate(z, y, folds, alphas, torch.ones_like(folds, dtype=torch.bool))
    weights, biases = _Moments.of(z, y).solve([found.alpha])
    weight = weights[0] if basis is None else basis @ weights[0]
    return RidgeFit(**vars(found), weight=weight, bias=float(biases[0]))


def solve_ridge(vectors: Rows, ratings: Tensor, alpha: float) -> tuple[Tensor, float]:
    """The (E,) weight and the bias for one strength; arguments and errors as of `fit_ridge`."""
    x, y = check_rated(vectors, ratings, torch.arange(len(ratings)))
    weights, biases = _Moments.of(x, y).solve([alpha])
    return weights[0], float(biases[0])


def cross_predict(
    vectors: Rows,
    ratings: Tensor,
    folds: Tensor,
    used: Tensor,
    alphas: Sequence[float] = ALPHAS,
) -> HeldOutScores:
    """Score each row by fits of the `used` (N,) rows of the other folds."""
    x, y = check_rated(vectors, ratings, folds)
    return _cross_validate(reduce_width(x)[1], y, folds, alphas, used)


def _cross_validate(
    x: Tensor, y: Tensor, folds: Tensor, alphas: Sequence[float], used: Tensor
) -> HeldOutScores:
    """Score each fold by fits of the others, also in the choice of their strength."""
    places = [folds == fold for fold in torch.unique(folds)]
    parts = [_Moments.of(x[place & used], y[place & used]) for place in places]

    def fit_others(*left: int) -> tuple[Tensor, Tensor]:
        return _sum_parts([p for n, p in enumerate(parts) if n not in left]).solve(alphas)

    def predict(fold: int, fitted: tuple[Tensor, Tensor]) -> Tensor:
        return x[places[fold]] @ fitted[0].T + fitted[1]  # (n, A)

    def lose(fold: int, scores: Tensor) -> Tensor:
        return (scores - y[places[fold], None])[used[places[fold]]].square().sum(0)  # (A,)

    losses = torch.zeros(len(places), len(alphas), dtype=torch.float64)  # without a fold at all
    apart: list[list[Tensor]] = [[] for _ in places]  # scores by fits without two folds
    for one, other in combinations(range(len(places)), 2):
        fitted = fit_others(one, other)
        for tested, left in ((one, other), (other, one)):
            apart[tested].append(predict(tested, fitted))
            losses[left] += lose(tested, apart[tested][-1])
    scores, means, comparable = (torch.empty_like(y) for _ in range(3))
    total = torch.zeros(len(alphas), dtype=torch.float64)
    noise = []
    for fold, place in enumerate(places):
        weights, biases = fit_others(fold)
        found, best = predict(fold, (weights, biases)), losses[fold].argmin()
        total += lose(fold, found)
        scores[place] = found[:, best]
        comparable[place] = _standardise(x, weights[best])[place]
        noise.append(torch.stack([rows[:, best] - rows[:, best].mean() for rows in apart[fold]]))
        others = _sum_parts(parts[:fold] + parts[fold + 1 :])
        means[place] = others.y / others.count
    alpha = alphas[int(total.argmin())]
    return HeldOutScores(alpha, scores, comparable, means, noise_share(noise))


def _standardise(x: Tensor, weight: Tensor) -> Tensor:
    """(N,) scores by a weight, with mean 0 and spread 1 over all rows; zeros if none differ.

    The ratings of a fold are not in its weight, but in the mean and the spread of its scores: the
    mean of the other folds is low where its own is high, and the spread is small where it differs
    from the others. With either, ratings by chance correlate below 0.
    """
    scores = (x - x.mean(0)) @ weight
    spread = scores.std(correction=0)
    return scores / spread if spread > 0 else torch.zeros_like(scores)


def _sum_parts(parts: list[_Moments]) -> _Moments:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def reduce_width(x: Tensor) -> tuple[Tensor | None, Tensor]:
    """(N, E) rows -> an (E, N) basis of their span and (N, N) coordinates, if N is less than E.

    A penalised fit lies in the span of the rows, so nothing is lost. Else None, and the rows.
    """
    if len(x) >= x.shape[1]:
        return None, x
    basis = torch.linalg.svd(x, full_matrices=False).Vh.T
    return basis, x @ basis


def check_rated(vectors: Rows, ratings: Tensor, folds: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors and ratings in float64; the errors are those of `fit_ridge`."""
    x, y = to_tensor(vectors).detach().cpu().double(), ratings.detach().cpu().double()
    if x.ndim != 2 or y.shape != x.shape[:1] or folds.shape != y.shape:
        raise ShapeError(
            f"vectors {tuple(x.shape)} must be (N, E), and ratings {tuple(y.shape)} and folds "
            f"{tuple(folds.shape)} (N,), one for each row."
        )
    check_finite(x, "the vectors", "leave these images out.")
    check_finite(y, "the ratings", "leave the images without a rating out.")
    if len(torch.unique(folds)) < FEWEST_FOLDS:
        raise ConfigError(
            f"a fit needs rows in at least {FEWEST_FOLDS} folds: one to test it on, and two to "
            "choose the strength of the penalty."
        )
    if bool((y == y[0]).all()):
        raise ConfigError(
            f"all {len(y)} ratings are {float(y[0]):g}, so there is nothing to learn from them; "
            "rate images that differ."
        )
    return x, y
