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
    FEWEST_UNITS,
    Interval,
    Measured,
    as_numbers,
    bootstrap,
    number_groups,
    standard_error,
    wilson,
    wilson_of_groups,
)
from ecliptic.scoring.paired_tests import sign_flip_test

POWER = 0.8  # of studies that are to find a difference
MOST_NAMED = 1_000_000  # units; that more are needed is said without the number
_ROUNDING = 1e-7  # of the largest score: float32 vectors have no smaller differences
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
    win_rate: Interval | None  # of the items that are no tie; None if there are too few
    level: float
    smallest: float  # mean difference that so many units would show, 4 times of 5
    needed: int | None  # units for this difference; None if these tell it, or if it is rounding

    @property
    def tells(self) -> bool:
        """Whether the difference is more than chance: by the interval, and by the test."""
        return _tells(self.difference, self.p, self.level)

    @property
    def interval(self) -> Interval | None:
        """That of the difference; None if there are too few items or groups for one."""
        return self.difference if self.units >= FEWEST_UNITS else None

    def verdict(self, first: str = "A", second: str = "B", what: str = "pairs") -> str:
        """One plain sentence or two: which is higher, or what it would take to tell."""
        if self.wins == self.losses == 0:
            return f"{first} and {second} score the same on each of {self.n:,} {what}."
        if self.tells:
            ahead, by = "higher", self.difference
            if by.value < 0:
                ahead, by = "lower", Interval(-by.high, -by.value, -by.low)
            return f"{first} scores {ahead} than {second} by {by.show('{:.4f}')}, p {self.p:.2g}."
        units = what if self.units == self.n else f"groups of {what}"
        found = self.difference
        shown = found.show("{:+.4f}") if self.interval else f"{found.value:+.4f}"
        return (
            f"{self.units:,} {units} are too few to tell {first} and {second} apart: the "
            f"difference is {shown}, p {self.p:.2g}. {self._reach(units)}{self._need(units)}"
        )

    def _reach(self, units: str) -> str:
        fewest = fewest_to_tell(self.level)
        if self.units < fewest:
            return (
                f"Fewer than {fewest} {units} can show no difference, at a level of {self.level:g}."
            )
        return (
            f"With {self.units:,} {units}, a difference of {_short(self.smallest)} is found 4 "
            "times in 5."
        )

    def _need(self, units: str) -> str:
        if self.needed is None:
            return ""
        many = f"about {self.needed:,}"
        if self.needed > MOST_NAMED:
            many = f"more than {MOST_NAMED:,}"
        return f" To find {_short(abs(self.difference.value))}, use {many} {units}."


def fewest_to_tell(level: float) -> int:
    """The fewest units whose sign-flip test can tell anything: all signs equal are 2 of 2^n."""
    return math.ceil(math.log2(2 / (1 - level)) - 1e-9)


def _short(number: float) -> str:
    """Two digits, zeros too: 0.10."""
    return f"{number:#.2g}".rstrip(".")


def compare_pairs(
    first: Any,
    second: Any,
    level: float = 0.95,
    seed: int = 0,
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> PairedComparison:
    """Compare the scores of two systems on the same items, item by item.

    Scores that differ by no more than the rounding of float32 are ties.

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
    d, largest = a - b, float(np.abs(np.stack([a, b])).max(initial=0))
    d[np.abs(d) <= _ROUNDING * largest] = 0.0
    difference = bootstrap(d, level=level, seed=seed, groups=groups)
    sums = d if groups is None else _sum_groups(d, groups)
    p = sign_flip_test(sums, seed)
    reach = _NORMAL.inv_cdf((1 + level) / 2) + _NORMAL.inv_cdf(POWER)
    smallest, found = reach * standard_error(d, groups), abs(difference.value)
    needed = None
    if found > _ROUNDING * largest and not _tells(difference, p, level):
        enough = math.ceil(len(sums) * (smallest / found) ** 2)
        needed = max(enough, len(sums) + 1, fewest_to_tell(level))
    wins, losses = int(np.sum(d > 0)), int(np.sum(d < 0))
    return PairedComparison(
        n=len(d),
        units=len(sums),
        first=float(a.mean()),
        second=float(b.mean()),
        difference=difference,
        p=p,
        wins=wins,
        losses=losses,
        ties=len(d) - wins - losses,
        win_rate=_rate_wins(d, groups, level),
        level=level,
        smallest=smallest,
        needed=needed,
    )


def _tells(difference: Interval, p: float, level: float) -> bool:
    outside = difference.low > 0 or difference.high < 0
    return outside and p <= 1 - level + 1e-12


def _rate_wins(d: Measured, groups: Any, level: float) -> Interval | None:
    """The share of wins among the items that are no tie, of which a group counts as one."""
    differ = d != 0
    wins = d[differ] > 0
    if groups is None:
        return wilson(int(wins.sum()), len(wins), level) if len(wins) else None
    own = number_groups(groups, len(d))[differ]
    return wilson_of_groups(wins, own, level) if len(set(own.tolist())) > 1 else None


def _sum_groups(d: Measured, groups: Any) -> Measured:
    return np.bincount(number_groups(groups, len(d)), weights=d).astype(np.float64)
