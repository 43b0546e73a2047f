"""How far a number that was measured on a sample may be from the truth.

`bootstrap` takes any statistic, `wilson` and `clopper_pearson` a share of successes. The kind of
bootstrap interval depends on the statistic, because no kind keeps its promise for all of them: of a
mean it is the studentised one, of a median the percentiles, of any other function BCa.
N values, R resamples, G groups or parts.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 12 to 14.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import check_choice, check_count, check_finite, check_range
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring.binomial import check_successes, find_probability
from ecliptic.scoring.student import student_quantile

Measured: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Literal["mean", "median"] | Callable[[Measured], Measured]

MOST_UNITS = 1024  # drawn apart; more values or groups are drawn in so many random parts
_NO_SPREAD = 1e-6  # of the spread of the sample; what a resample has less of is rounding
_FURTHEST = 3  # times Student's quantile, of studentised resamples
FEWEST_UNITS = 5  # values or groups; of fewer, an interval says hardly anything
_HELD = 1 << 22  # drawn values that are held at once
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """A measured value, and the bounds between which the truth is, as sure as the level says."""

    low: float
    value: float
    high: float

    def within(self, least: float, most: float) -> "Interval":
        """The same with ends that are no further than what the value can be."""
        low, high = max(self.low, least), min(self.high, most)
        return Interval(min(low, self.value), self.value, max(high, self.value))

    def show(self, pattern: str = "{:.3f}") -> str:
        """For people: "0.312 (0.301 to 0.323)"."""
        value, low, high = map(pattern.format, (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"

    def show_at(self, level: float, pattern: str = "{:.4f}") -> str:
        """The same with its kind: "0.3120 (0.3010 to 0.3230), 95% bootstrap interval"."""
        return f"{self.show(pattern)}, {100 * level:g}% bootstrap interval"


def bootstrap(
    values: Any,
    statistic: Statistic = "mean",
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> Interval:
    """An interval for a statistic of values that are a random sample.

    Of the mean, the interval is studentised. At a level of 95 % it holds the truth in 95 % of
    samples of 5 or more normal values, and in 90 % to 95 % of those of strongly skewed ones. Of
    values that are mostly tied, such as scores that are clamped at 0, only those that differ from
    the most frequent one count: with fewer than about 10 of those it holds the truth less often,
    because many samples do not show what else there is. Its ends are at most 3 times as far away
    as those of Student's interval (of 5 values, if there are fewer).

    Of more than 1,024 values or groups, random parts are drawn together, which changes nothing that
    can be seen and keeps it fast. The median is resampled by its exact distribution.

    Args:
        values: (N,) numbers.
        statistic: "mean", "median", or a function of (R, N) resamples that gives (R,).
        level: the share of samples whose interval holds the truth.
        seed: of the resamples; the same seed gives the same interval.
        resamples: R.
        groups: (N,) anything that can be compared, such as the name of the image of each value;
            equal entries are drawn together.

    Raises:
        ConfigError: fewer than 2 values or groups, too few resamples, or an unknown statistic.
        NumericalError: NaN or infinity among the values.
        ShapeError: values that are not one row, groups of another length, or a function of another
            shape.
    """
    x = as_numbers(values, "values")
    if not callable(statistic):
        check_choice("statistic", statistic, ("mean", "median"))
    tail = _check_tail(level, check_count("resamples", resamples))
    parts = None if groups is None else number_groups(groups, len(x))
    units = _check_units(parts, len(x))
    rng = np.random.default_rng(seed)
    if parts is not None and units > MOST_UNITS:
        parts = random_parts(units, rng)[parts]
    if statistic == "mean":
        return _of_mean(x, parts, tail, rng, resamples)
    if statistic == "median":
        found = _medians(x, parts, rng, resamples)
        return _between(float(np.median(x)), found, tail, 1 - tail)
    return _of_function(x, statistic, parts, tail, rng, resamples)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of a share of successes; its coverage is near the level on average.

    Raises:
        ConfigError: no trial, or more successes than trials.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    """
    successes, n = check_successes(successes, n)
    return wilson_of_share(successes / n, n, level)


def wilson_of_share(share: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's interval of a measured share whose sample is worth `n` trials, whole or not.

    Raises:
        ConfigError: a level that is not between 0 and 1.
    """
    z = _NORMAL.inv_cdf(1 - _check_tail(level))
    square = z * z / n
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n))
    low, high = ((share + square / 2 + side) / (1 + square) for side in (-half, half))
    return Interval(low if share > 0 else 0.0, share, high if share < 1 else 1.0)


def wilson_of_groups(
    successes: Any, groups: Any, level: float = 0.95, inflation: float = 1.0
) -> Interval:
    """The score interval of a share of successes that come in groups which belong together.

    They count as so many trials apart as have the same standard error, and no more than there are;
    if all of them are successes, or none is, as the number of groups.

    Args:
        successes: (N,) truth values.
        groups: (N,) equal entries belong together.
        level: the share of samples whose interval holds the truth.
        inflation: how many times as large as of groups that are apart the variance is.

    Raises:
        ConfigError: fewer than 2 groups.
        ShapeError: not one group for each.

    Source: Korn & Graubard 1998, Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data, with Wilson's interval in place of the exact one.
    """
    x, tail = as_numbers(successes, "successes"), _check_tail(level)
    units = _check_units(number_groups(groups, len(x)), len(x))
    share, error = float(x.mean()), standard_error(x, groups)
    trials = float(units)
    if 0 < share < 1:
        trials = len(x) if error == 0 else min(len(x), share * (1 - share) / error**2)
    z = _NORMAL.inv_cdf(1 - tail)
    fewer = (z / student_quantile(tail, units - 1)) ** 2  # as the error is known from few groups
    return wilson_of_share(share, trials * fewer / inflation, level)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The exact interval of a share of successes; its coverage is never below the level.

    Raises:
        ConfigError: no trial, or more successes than trials.

    Source: Clopper & Pearson 1934, The use of confidence or fiducial limits.
    """
    successes, n = check_successes(successes, n)
    tail = _check_tail(level)
    low = find_probability(successes, n, tail) if successes else 0.0
    high = find_probability(successes + 1, n, 1 - tail) if successes < n else 1.0
    return Interval(low, successes / n, high)


def as_numbers(values: Any, name: str) -> Measured:
    """(N,) float64 of a tensor, an array or a list.

    Raises:
        ShapeError: not one row of numbers.
        NumericalError: NaN or infinity.
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "fiub"):
        raise ShapeError(
            f"{name} must be one row of numbers, got {array.dtype} of shape {array.shape}."
        )
    numbers = array.astype(np.float64)
    check_finite(numbers, name, "leave those out, and count them.")
    return numbers


def random_parts(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(N,) the part of each value: one of `MOST_UNITS`, whose sizes differ by 1 at most."""
    return rng.permutation(n) % MOST_UNITS


def _check_tail(level: float, resamples: int | None = None) -> float:
    """The share on each side outside of the interval."""
    check_range("level", level, 0.0, 1.0, above=True, below=True)
    tail = (1 - level) / 2
    if resamples is not None and (resamples + 1) * tail < 1:
        raise ConfigError(
            f"{resamples} resamples are too few for a level of {level}; take at least "
            f"{math.ceil(1 / tail)}."
        )
    return tail


def number_groups(groups: Any, n: int) -> NDArray[np.int64]:
    """(N,) the number of the group of each value."""
    names = np.asarray(groups.detach().cpu() if hasattr(groups, "detach") else groups)
    if names.shape != (n,):
        raise ShapeError(f"groups must be one name for each of {n} values, got {names.shape}.")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _check_units(parts: NDArray[np.int64] | None, n: int) -> int:
    """The number of values or of groups, at least 2."""
    units = n if parts is None else int(parts.max(initial=-1)) + 1
    if units < 2:
        raise ConfigError(
            f"an interval needs at least 2 {'values' if parts is None else 'groups'}, got {units}; "
            "one alone does not tell how much they differ."
        )
    return units


def standard_error(values: Any, groups: Any = None) -> float:
    """The standard error of the mean of (N,) values, of which those of one group belong together.

    Raises:
        ConfigError: fewer than 2 values or groups.
    """
    x = as_numbers(values, "values")
    parts = np.arange(len(x)) if groups is None else number_groups(groups, len(x))
    units = _check_units(None if groups is None else parts, len(x))
    return float(_error_of_mean(_sum_units(x - x.mean(), parts).sum(axis=0), units))


def _between(value: float, found: Measured, low: float, high: float) -> Interval:
    """The interval between two quantiles of resampled values, each one of them."""
    ordered, last = np.sort(found), len(found) - 1
    places = (math.floor((last + 2) * low) - 1, math.ceil((last + 2) * high) - 1)
    ends = [float(ordered[min(max(place, 0), last)]) for place in places]
    return Interval(ends[0], value, ends[1])


def _of_mean(
    x: Measured, parts: NDArray[np.int64] | None, tail: float, rng: np.random.Generator, count: int
) -> Interval:
    """The studentised interval of a mean, which is a ratio of sums where groups differ in size."""
    if parts is None:
        parts = np.arange(len(x)) if len(x) <= MOST_UNITS else random_parts(len(x), rng)
    mean, units = float(x.mean()), int(parts.max()) + 1
    columns = _sum_units(x - mean, parts)  # (G, 5)
    spread = float(_error_of_mean(columns.sum(axis=0), units))
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return Interval(mean, mean, mean)
    rows = np.concatenate([w @ columns for w in _draw_counts(units, count, rng)])  # (R, 5)
    shift, errors = rows[:, 1] / rows[:, 0], _error_of_mean(rows.T, units)
    least, limit = _NO_SPREAD * spread, _furthest_t(tail, units)
    t = np.where(np.abs(shift) > least, np.sign(shift) * limit, 0.0)  # where there is no spread
    np.divide(shift, errors, out=t, where=errors > least)
    cut = _between(0.0, np.clip(t, -limit, limit), tail, 1 - tail)
    return Interval(mean - cut.high * spread, mean, mean - cut.low * spread)


def _furthest_t(tail: float, units: int) -> float:
    """What studentised resamples are cut to.

    One that has nearly no spread, as many have of few or of tied values, says nothing about the
    size of t. In simulations of normal, skewed and clamped values this cut keeps the coverage and
    bounds the interval.
    """
    freedom = units - 1
    bound = _FURTHEST * student_quantile(tail, max(freedom, FEWEST_UNITS - 1))
    return max(bound, student_quantile(tail, freedom))


def _sum_units(over: Measured, parts: NDArray[np.int64]) -> Measured:
    """(G, 5) sizes, sums of what is above the mean, and their products, of each unit."""
    sizes = np.bincount(parts).astype(np.float64)  # (G,)
    sums = np.bincount(parts, weights=over)  # (G,)
    return np.stack([sizes, sums, sizes**2, sizes * sums, sums**2], axis=1)


def _error_of_mean(sums: Measured, units: int) -> Any:
    """The standard error of a ratio of sums, from those of sizes, values and their products.

    Source: Cochran 1977, Sampling Techniques, section 6.3.
    """
    sizes, over, size_squares, products, squares = sums
    shift = over / sizes
    left = squares - 2 * shift * products + shift**2 * size_squares
    return np.sqrt(np.maximum(left, 0) * units / (units - 1)) / sizes


def _draw_counts(units: int, count: int, rng: np.random.Generator) -> Iterator[Measured]:
    """How often each unit is in each resample: blocks of (r, G), count rows in all."""
    block = max(1, _HELD // units)
    for start in range(0, count, block):
        r = min(block, count - start)
        places = rng.integers(0, units, (r, units)) + units * np.arange(r)[:, None]
        counts = np.bincount(places.ravel(), minlength=r * units)
        yield counts.reshape(r, units).astype(np.float64)


def _medians(
    x: Measured, parts: NDArray[np.int64] | None, rng: np.random.Generator, count: int
) -> Measured:
    """(R,) medians of resamples.

    Without groups, the place of the middle of N draws is that of the middle of N uniform numbers,
    whose distribution is Beta; so no resample is made.
    """
    if parts is not None:
        return np.concatenate(list(_resample(x, lambda z: np.median(z, axis=1), parts, rng, count)))
    n, ordered = len(x), np.sort(x)
    lower = (n + 1) // 2  # rank of the middle, or of the lower one of two
    first = rng.beta(lower, n - lower + 1, count)
    second = first if n % 2 else first + (1 - first) * rng.beta(1, n - lower, count)
    places = [np.minimum((n * u).astype(np.int64), n - 1) for u in (first, second)]
    return (ordered[places[0]] + ordered[places[1]]) / 2


def _of_function(
    x: Measured,
    statistic: Callable[[Measured], Measured],
    parts: NDArray[np.int64] | None,
    tail: float,
    rng: np.random.Generator,
    count: int,
) -> Interval:
    """The bias-corrected and accelerated interval (BCa)."""
    value = float(_apply(statistic, x[None])[0])
    found = np.concatenate(list(_resample(x, statistic, parts, rng, count)))
    check_finite(found, "the statistic of resamples", "it must be finite for repeated values too.")
    below = (np.sum(found < value) + np.sum(found == value) / 2 + 0.5) / (count + 1)
    bias, bend = _NORMAL.inv_cdf(float(below)), _acceleration(x, statistic, parts)
    ends = []
    for z in (_NORMAL.inv_cdf(tail), -_NORMAL.inv_cdf(tail)):
        ends.append(_NORMAL.cdf(bias + (bias + z) / (1 - bend * (bias + z))))
    return _between(value, found, *ends)


def _acceleration(
    x: Measured, statistic: Callable[[Measured], Measured], parts: NDArray[np.int64] | None
) -> float:
    """How the spread of the statistic grows with its value, by leaving out one unit at a time.

    It falls as one by the root of their number, so of many units it is 0.
    """
    parts = np.arange(len(x)) if parts is None else parts
    units = int(parts.max()) + 1
    if units > MOST_UNITS:
        return 0.0
    without = np.array([_apply(statistic, x[parts != unit][None])[0] for unit in range(units)])
    gaps = without.mean() - without
    size = float(np.sum(gaps**2))
    return 0.0 if size == 0 else float(np.sum(gaps**3)) / (6 * size**1.5)


def _resample(
    x: Measured,
    statistic: Callable[[Measured], Measured],
    parts: NDArray[np.int64] | None,
    rng: np.random.Generator,
    count: int,
) -> Iterator[Measured]:
    """The statistic of resamples, some at a time."""
    if parts is None:
        for start in range(0, count, block := max(1, _HELD // len(x))):
            places = rng.integers(0, len(x), (min(block, count - start), len(x)))
            yield _apply(statistic, x[places])
        return
    members = np.split(np.argsort(parts, kind="stable"), np.cumsum(np.bincount(parts))[:-1])
    for _ in range(count):
        drawn = rng.integers(0, len(members), len(members))
        yield _apply(statistic, x[np.concatenate([members[unit] for unit in drawn])][None])


def _apply(statistic: Callable[[Measured], Measured], rows: Measured) -> Measured:
    found = np.asarray(statistic(rows), dtype=np.float64)
    if found.shape != rows.shape[:1]:
        raise ShapeError(
            f"the statistic must give one number for each of {len(rows)} rows, got {found.shape}; "
            "use axis=1."
        )
    return found
