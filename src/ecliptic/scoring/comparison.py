"""Two systems scored on the same items: which is better, and are there enough items to tell?

N items.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ShapeError
from ecliptic.scoring.intervals import (
    Interval,
    Measured,
    as_numbers,
    bootstrap,
    number_groups,
    wilson,
)
from ecliptic.scoring.paired_tests import sign_flip_test

POWER = 0.8  # of studies that are to find a difference
_NORMAL = NormalDist()


@dataclass(frozen=True)
class PairedComparison:
    """What `compare_pairs` found; differences are of the first system minus the second."""

    n: int
    units: int  # that are independent: the items, or their groups
    first: float  # mean
    second: float
    difference: Interval  # of the means
    p: float  # of the sign-flip test
    wins: int  # items on which the first scores higher
    losses: int
    ties: int
    win_rate: Interval | None  # of the items that are no tie; None if all are
    level: float
    smallest: float  # mean difference that so many units would show, 4 times of 5
    needed: int | None  # units for the difference that was measured; None if it is 0

    @property
    def tells(self) -> bool:
        """Whether the difference is more than chance: by the interval, and by the test."""
        outside = self.difference.low > 0 or self.difference.high < 0
        return outside and self.p <= 1 - self.level + 1e-12

    def verdict(self, first: str = "A", second: str = "B", what: str = "pairs") -> str:
        """One plain sentence or two: which is higher, or what it would take to tell."""
        shown = f"{self.difference.show('{:+.4f}')}, p {self.p:.2g}"
        if self.wins == self.losses == 0:
            return f"{first} and {second} score the same on each of {self.n:,} {what}."
        if self.tells:
            ahead = "higher" if self.difference.value > 0 else "lower"
            return f"{first} scores {ahead} than {second} by {shown}."
        need = f"; for {abs(self.difference.value):.2g}, about {self.needed:,} are needed"
        return (
            f"{self.units:,} {what} are too few to tell {first} and {second} apart: the difference "
            f"is {shown}. So many show a difference of about {self.smallest:.2g} in 4 of 5 cases"
            f"{need if self.needed else ''}."
        )


def compare_pairs(
    first: Any,
    second: Any,
    level: float = 0.95,
    seed: int = 0,
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> PairedComparison:
    """Compare the scores of two systems on the same items, item by item.

    Args:
        first: (N,) scores of one system.
        second: (N,) scores of the other on the same items, in the same order.
        level: of the intervals; the test calls a difference chance above 1 - level.
        seed: of the resamples and of the flipped signs.
        groups: (N,) items with equal entries count as one observation.

    Raises:
        ShapeError: rows of two lengths.
        ConfigError: fewer than 2 items or groups.
        NumericalError: NaN or infinity among the scores.
    """
    a, b = as_numbers(first, "the first scores"), as_numbers(second, "the second scores")
    if a.shape != b.shape:
        raise ShapeError(
            f"{len(a)} scores cannot be compared with {len(b)} pair by pair; score the same items."
        )
    d = a - b
    difference = bootstrap(d, level=level, seed=seed, groups=groups)
    sums = d if groups is None else _sum_groups(d, groups)
    spread = float(sums.std(ddof=1)) * len(sums) / len(d)  # of one unit, on the scale of an item
    wins, losses = int(np.sum(d > 0)), int(np.sum(d < 0))
    reach = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(POWER)
    found = abs(difference.value)
    return PairedComparison(
        n=len(d),
        units=len(sums),
        first=float(a.mean()),
        second=float(b.mean()),
        difference=difference,
        p=sign_flip_test(sums, seed),
        wins=wins,
        losses=losses,
        ties=len(d) - wins - losses,
        win_rate=wilson(wins, wins + losses, level) if wins + losses else None,
        level=level,
        smallest=reach * spread / math.sqrt(len(sums)),
        needed=math.ceil((reach * spread / found) ** 2) if found > 0 and spread > 0 else None,
    )


def _sum_groups(d: Measured, groups: Any) -> Measured:
    return np.bincount(number_groups(groups, len(d)), weights=d).astype(np.float64)
