"""Intervals hold the truth as often as they say, and equal SciPy's and the published ones."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from ecliptic import scoring
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring.intervals import MOST_UNITS
from ecliptic.scoring.student import student_quantile

RNG = np.random.default_rng(11)
VALUES = RNG.gamma(2.0, 1.0, 60)


def covers(draw: Callable[[Any], Any], truth: float, trials: int, **options: Any) -> float:
    """The share of `trials` samples whose interval holds the truth."""
    rng = np.random.default_rng(5)
    found = [scoring.bootstrap(draw(rng), seed=i, **options) for i in range(trials)]
    return sum(one.low <= truth <= one.high for one in found) / trials


# --- shares ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n", "wilson", "exact"),
    [
        (8, 10, (0.49016, 0.94332), (0.44390, 0.97479)),
        (0, 20, (0.0, 0.16113), (0.0, 0.16843)),
        (97, 100, (0.91548, 0.98975), (0.91482, 0.99377)),
    ],
)
def test_intervals_of_shares_equal_the_published_ones(
    k: int, n: int, wilson: tuple[float, float], exact: tuple[float, float]
) -> None:
    score, clopper = scoring.wilson(k, n), scoring.clopper_pearson(k, n)
    assert (score.low, score.high) == pytest.approx(wilson, abs=5e-6)
    assert (clopper.low, clopper.high) == pytest.approx(exact, abs=5e-6)
    assert score.value == clopper.value == k / n


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(("k", "n"), [(1, 2), (0, 1), (1, 1), (30, 4000), (3999, 4000)])
def test_intervals_of_shares_equal_scipy(k: int, n: int, level: float) -> None:
    peer = scipy.stats.binomtest(k, n)
    for ours, method in ((scoring.wilson, "wilson"), (scoring.clopper_pearson, "exact")):
        low, high = peer.proportion_ci(level, method=method)
        found = ours(k, n, level)
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_the_tail_of_the_binomial_equals_scipy() -> None:
    for n, p in ((1, 0.3), (29, 0.1), (300, 0.01), (5000, 0.97), (1_000_000, 0.5)):
        for k in sorted({0, 1, n // 3, round(n * p), n - 1, n}):
            peer = scipy.stats.binom.sf(k - 1, n, p)
            assert scoring.binomial_tail(k, n, p) == pytest.approx(peer, rel=1e-7, abs=1e-300)
    assert scoring.binomial_tail(3, 10, 0.0) == 0
    assert scoring.binomial_tail(3, 10, 1.0) == 1


@pytest.mark.parametrize(("k", "n"), [(11, 10), (-1, 10), (0, 0), (0.5, 2)])
def test_counts_that_do_not_fit_are_refused(k: Any, n: Any) -> None:
    for interval in (scoring.wilson, scoring.clopper_pearson):
        with pytest.raises(ConfigError, match=r"successes|n must be"):
            interval(k, n)


# --- the bootstrap -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "truth", "options"),
    [
        (lambda g: g.normal(size=20), 0.0, {}),
        (lambda g: g.gamma(2.0, size=30), 2.0, {}),
        (lambda g: np.maximum(g.normal(size=60), 0), 0.398942, {}),
        (lambda g: np.maximum(g.normal(-1, 1, 60), 0), 0.083315, {}),
        (lambda g: g.exponential(size=41), np.log(2), {"statistic": "median"}),
    ],
    ids=["normal", "skewed", "clamped", "mostly clamped", "median"],
)
def test_intervals_hold_the_truth_as_often_as_promised(
    draw: Any, truth: float, options: dict[str, Any]
) -> None:
    assert abs(covers(draw, truth, 500, resamples=999, **options) - 0.95) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "truth", "least"),
    [
        (lambda g: g.normal(size=5), 0.0, 0.92),
        (lambda g: g.lognormal(size=5), np.exp(0.5), 0.87),
        (lambda g: g.lognormal(size=20), np.exp(0.5), 0.87),
        (lambda g: g.beta(6, 0.4, size=10), 6 / 6.4, 0.90),
        (lambda g: g.binomial(1, 0.3, size=10), 0.3, 0.95),
        (lambda g: np.maximum(g.normal(-1, 1, 20), 0), 0.083315, 0.87),
    ],
    ids=["normal 5", "lognormal 5", "lognormal 20", "beta 10", "two values 10", "tied 20"],
)
def test_small_samples_hold_the_truth_as_often_as_the_docstring_says(
    draw: Any, truth: float, least: float
) -> None:
    assert covers(draw, truth, 500, resamples=999) >= least


@pytest.mark.parametrize("count", [5, 10, 20, 50])
def test_intervals_of_clamped_scores_stay_near_the_values(count: int) -> None:
    """Resamples without spread, or of one tiny value, once gave ends of millions."""
    rng = np.random.default_rng(count)
    for seed in range(100):
        x = np.maximum(rng.normal(-1, 1, count), 0)
        found = scoring.bootstrap(x, seed=seed, resamples=999)
        student = scipy.stats.t.ppf(0.975, count - 1) * scipy.stats.sem(x)
        assert found.high <= x.mean() + 3.001 * student
        assert found.low >= x.mean() - 3.001 * student
    found = scoring.bootstrap([0] * 7 + [0.12, 0.31, 0.31])
    assert found.high < 0.4


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 100, 1023])
@pytest.mark.parametrize("tail", [0.25, 0.025, 0.0005])
def test_the_quantile_of_student_equals_scipy(tail: float, freedom: int) -> None:
    peer = scipy.stats.t.isf(tail, freedom)
    assert student_quantile(tail, freedom) == pytest.approx(peer, rel=1e-9)


@pytest.mark.slow
def test_intervals_of_functions_hold_the_truth() -> None:
    def deviation(z: Any) -> Any:
        return z.std(axis=1, ddof=1)

    found = covers(lambda g: g.normal(size=200), 1.0, 500, statistic=deviation, resamples=999)
    assert abs(found - 0.95) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_of_groups_hold_the_truth(level: float) -> None:
    """Values of one group are near each other, so they say less than as many apart."""
    sizes = np.arange(30) % 5 + 2
    names = np.repeat(np.arange(30), sizes)

    def draw(g: Any) -> Any:
        return g.normal(size=30)[names] + g.normal(size=len(names)) / 5

    found = covers(draw, 0.0, 500, groups=names, level=level, resamples=999)
    assert abs(found - level) <= 0.02
    assert covers(draw, 0.0, 500, level=level, resamples=999) < level - 0.2


def test_the_mean_equals_the_textbook_formula_where_both_are_right() -> None:
    """Of normal values, studentised resampling ends where Student's interval does."""
    x = np.random.default_rng(1).normal(3, 1, 400)
    peer = scipy.stats.t.interval(0.95, 399, x.mean(), scipy.stats.sem(x))
    found = scoring.bootstrap(torch.from_numpy(x))
    assert found.value == pytest.approx(x.mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(peer, abs=0.01)


def test_a_function_equals_scipys_interval_of_the_same_kind() -> None:
    def spread(z: Any) -> Any:
        return z.std(axis=1)

    peer = scipy.stats.bootstrap(
        (VALUES,), np.std, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    found = scoring.bootstrap(VALUES, spread, resamples=9999)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.02)


def test_the_median_is_resampled_by_its_exact_distribution() -> None:
    for x in (VALUES, VALUES[:59], VALUES[:2]):
        drawn = np.random.default_rng(3).choice(x, (20_000, len(x)))
        peer = np.quantile(np.median(drawn, axis=1), [0.1, 0.9])
        found = scoring.bootstrap(x, "median", level=0.8, resamples=20_000)
        assert found.value == np.median(x)
        assert (found.low, found.high) == pytest.approx(peer, abs=0.05)


def test_many_values_give_the_interval_of_their_standard_error() -> None:
    x = np.random.default_rng(2).exponential(size=20 * MOST_UNITS + 7)
    found = scoring.bootstrap(x, resamples=2000)
    half = 1.96 * x.std() / np.sqrt(len(x))
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


def test_many_groups_are_drawn_in_parts() -> None:
    names = np.arange(40 * MOST_UNITS) // 4
    x = np.random.default_rng(2).exponential(size=len(names) // 4)[names]
    start = time.process_time()
    found = scoring.bootstrap(x, groups=names, resamples=2000)
    assert time.process_time() - start < 3  # 10 s if each group is drawn
    half = 1.96 * x.std() / np.sqrt(len(x) / 4)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    middle = scoring.bootstrap(x, "median", groups=names, resamples=200)
    assert middle.low < np.log(2) < middle.high


def test_the_standard_error_equals_the_textbook_formula() -> None:
    assert scoring.standard_error(VALUES) == pytest.approx(scipy.stats.sem(VALUES))
    names = np.repeat(np.arange(60), 3)
    copies = scoring.standard_error(np.repeat(VALUES, 3), names)
    assert copies == pytest.approx(scipy.stats.sem(VALUES))


def test_ends_can_be_kept_within_what_a_value_can_be() -> None:
    far = scoring.Interval(-3.0, 0.5, 7.0)
    assert far.within(-1, 1) == scoring.Interval(-1, 0.5, 1)
    assert scoring.Interval(0.1, 1.0000001, 2.0).within(0, 1).high == 1.0000001


def test_equal_entries_of_groups_are_drawn_together() -> None:
    """Four copies of each value say no more than one."""
    once = scoring.bootstrap(VALUES)
    names = [f"image {i}" for i in range(60) for _ in range(4)]
    copies = scoring.bootstrap(np.repeat(VALUES, 4), groups=names)
    assert (copies.low, copies.high) == pytest.approx((once.low, once.high), abs=0.03)
    alone = scoring.bootstrap(np.repeat(VALUES, 4))
    assert alone.high - alone.low < 0.6 * (copies.high - copies.low)
    for statistic in ("median", lambda z: z.mean(axis=1)):
        found = scoring.bootstrap(np.repeat(VALUES, 4), statistic, groups=names, resamples=500)
        assert found.low < found.value < found.high


def test_the_same_seed_gives_the_same_interval() -> None:
    assert scoring.bootstrap(VALUES, seed=4) == scoring.bootstrap(list(VALUES), seed=4)
    assert scoring.bootstrap(VALUES, seed=4) != scoring.bootstrap(VALUES, seed=5)


def test_few_or_equal_values_give_finite_bounds() -> None:
    assert scoring.bootstrap([2.5] * 9) == scoring.Interval(2.5, 2.5, 2.5)
    for x in ([0.0, 1.0], [0.0, 0.0, 1.0], [0, 0, 0, 0, 0, 0, 0, 1], VALUES[:4]):
        found = scoring.bootstrap(x)
        assert np.isfinite([found.low, found.high]).all()
        assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (([1.0],), ConfigError, "at least 2 values, got 1"),
        (([1.0, float("nan")],), NumericalError, "values must be finite"),
        (([[1.0], [2.0]],), ShapeError, "one row of numbers"),
        ((["a", "b"],), ShapeError, "one row of numbers"),
        (([1.0, 2.0], "mode"), ConfigError, "statistic must be one of"),
        (([1.0, 2.0], "mean", 1.0), ConfigError, "level must be"),
        (([1.0, 2.0], "mean", 0.95, 0, 20), ConfigError, "20 resamples are too few"),
        (([1.0, 2.0], "mean", 0.95, 0, 99, [1]), ShapeError, "groups must be one name for each"),
        (([1.0, 2.0], "mean", 0.95, 0, 99, [1, 1]), ConfigError, "at least 2 groups, got 1"),
        (([1.0, 2.0], lambda z: z.mean()), ShapeError, "use axis=1"),
    ],
)
def test_what_gives_no_interval_is_refused(given: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        scoring.bootstrap(*given)


def test_an_interval_shows_its_numbers() -> None:
    assert scoring.Interval(0.25, 0.5, 1).show("{:.2f}") == "0.50 (0.25 to 1.00)"
