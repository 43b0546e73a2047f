"""Isotonic regression: the probability that rises with the score and has the least squared error.

N examples, K knots.
Source: pool adjacent violators, Ayer et al. 1955, Ann. Math. Statist. 26; straight lines between
the ends of the pools, as in scikit-learn.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError


@dataclass(frozen=True)
class Isotonic:
    """A curve that never falls, through knots; beyond the first and the last it is level."""

    scores: tuple[float, ...]  # (K,) rising
    levels: tuple[float, ...]  # (K,) probabilities

    def __post_init__(self) -> None:
        if not self.scores or len(self.scores) != len(self.levels):
            raise ConfigError(
                f"an isotonic curve needs as many scores as levels, got {len(self.scores)} and "
                f"{len(self.levels)}."
            )
        if any(np.diff(self.scores) < 0) or any(np.diff(self.levels) < 0):
            raise ConfigError("the scores and the levels of an isotonic curve must not fall.")

    def __call__(self, scores: Tensor) -> Tensor:
        """Scores of any shape -> probabilities, float64; NaN stays NaN."""
        values = scores.detach().cpu().double().numpy()
        return torch.from_numpy(np.asarray(np.interp(values, self.scores, self.levels)))


def fit_isotonic(scores: Tensor, truth: Tensor, *, smooth: bool = False) -> Isotonic:
    """The isotonic curve of the examples.

    Args:
        scores: (N,) finite.
        truth: (N,) whether each is positive.
        smooth: keep each level from 1 / (M + 2) to (M + 1) / (M + 2) for a pool of M examples,
            so that no probability is 0 or 1; then a level may also be a little lower than the one
            before, and is raised to it.

    Raises:
        ShapeError: shapes that do not fit.
        ConfigError: only positives, or only negatives.
    """
    if scores.ndim != 1 or scores.shape != truth.shape:
        raise ShapeError(
            f"scores {tuple(scores.shape)} and truth {tuple(truth.shape)} must both be (N,)."
        )
    positive = truth.bool()
    if not bool(positive.any()) or bool(positive.all()):
        raise ConfigError(
            f"a calibration needs positive and negative examples, got {int(positive.sum())} and "
            f"{int((~positive).sum())}."
        )
    values, order = scores.double().sort(stable=True)
    pools = _pool(zip(values.tolist(), positive[order].tolist(), strict=True))
    knots, levels, floor = list[float](), list[float](), 0.0
    for low, high, total, count in pools:
        level = total / count
        if smooth:
            level = min(max(level, 1 / (count + 2)), (count + 1) / (count + 2))
        floor = max(floor, level)
        knots += [low] if low == high else [low, high]
        levels += [floor] if low == high else [floor, floor]
    return Isotonic(tuple(knots), tuple(levels))


Pool = tuple[float, float, float, int]  # lowest and highest score, positives, examples


def _pool(rising: Iterable[tuple[float, bool]]) -> list[Pool]:
    """Pools whose shares of positives rise; examples of one score are in one pool."""
    pools: list[Pool] = []
    for low, high, total, count in _join_ties(rising):
        while pools and pools[-1][2] * count >= total * pools[-1][3]:
            low, _, others, more = pools.pop()
            total, count = total + others, count + more
        pools.append((low, high, total, count))
    return pools


def _join_ties(rising: Iterable[tuple[float, bool]]) -> Iterator[Pool]:
    for score, same in groupby(rising, key=lambda pair: pair[0]):
        right = [positive for _, positive in same]
        yield score, score, float(sum(right)), len(right)
