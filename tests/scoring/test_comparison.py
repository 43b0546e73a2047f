"""A comparison says which system is better only when there are enough items to tell."""

from typing import Any

import numpy as np
import pytest
import scipy.stats

from ecliptic import scoring
from ecliptic.errors import ConfigError, NumericalError, ShapeError

RNG = np.random.default_rng(2)
BASE = RNG.normal(0.6, 0.2, 200)
BETTER = BASE + RNG.normal(0.05, 0.1, 200)


def test_a_clear_difference_is_told() -> None:
    found = scoring.compare_pairs(BETTER, BASE)
    d = BETTER - BASE
    assert found.difference.value == pytest.approx(d.mean())
    peer = scipy.stats.t.interval(0.95, 199, d.mean(), scipy.stats.sem(d))
    assert (found.difference.low, found.difference.high) == pytest.approx(peer, abs=0.003)
    assert (found.wins, found.losses, found.ties) == ((d > 0).sum(), (d < 0).sum(), 0)
    assert found.win_rate == scoring.wilson(found.wins, 200)
    assert found.tells
    assert found.verdict("new", "old").startswith("new scores higher than old by 0.0")
    swapped = scoring.compare_pairs(BASE, BETTER)
    low, high = -swapped.difference.high, -swapped.difference.low
    said = f"A scores lower than B by {d.mean():.4f} ({low:.4f} to {high:.4f}), p "
    assert swapped.verdict().startswith(said)


def test_too_few_pairs_say_what_it_would_take() -> None:
    found = scoring.compare_pairs(BETTER[:12], BASE[:12] + 0.03)
    assert not found.tells
    assert found.needed is not None
    text = found.verdict("new", "old", "pairs")
    assert "12 pairs are too few to tell new and old apart" in text
    assert f"With 12 pairs, a difference of {found.smallest:.2g} is found 4 times in 5." in text
    gap = abs(found.difference.value)
    assert text.endswith(f" To find {gap:.2g}, use about {found.needed:,} pairs.")


def test_the_smallest_difference_is_found_four_times_of_five() -> None:
    rng = np.random.default_rng(1)
    first = scoring.compare_pairs(rng.normal(size=2000), np.zeros(2000))
    size = first.smallest * np.sqrt(2000 / 40)
    told = scipy.stats.ttest_1samp(rng.normal(size, 1, (1000, 40)), 0, axis=1).pvalue <= 0.05
    assert abs(np.mean(told) - 0.8) <= 0.05


def test_equal_scores_are_said_to_be_equal() -> None:
    found = scoring.compare_pairs([0.5, 0.25], [0.5, 0.25])
    assert (found.ties, found.p, found.win_rate, found.needed) == (2, 1.0, None, None)
    assert not found.tells
    assert found.verdict() == "A and B score the same on each of 2 pairs."


def test_items_of_one_group_are_one_observation() -> None:
    """Every pair eight times over tells no more than once."""
    once = scoring.compare_pairs(BETTER[:12], BASE[:12] + 0.03)
    names = np.repeat(np.arange(12), 8)
    copies = scoring.compare_pairs(
        np.repeat(BETTER[:12], 8), np.repeat(BASE[:12] + 0.03, 8), groups=names
    )
    assert (copies.n, copies.units) == (96, 12)
    assert copies.p == pytest.approx(once.p)
    assert copies.smallest == pytest.approx(once.smallest)
    assert copies.needed == once.needed


def test_groups_of_several_sizes_are_measured_around_their_mean() -> None:
    """A large group has a large sum of differences, which is no spread."""
    rng = np.random.default_rng(1)
    names = np.repeat(np.arange(40), rng.integers(1, 20, 40))
    d = 0.02 + 0.005 * rng.normal(size=40)[names] + 0.005 * rng.normal(size=len(names))
    found = scoring.compare_pairs(d, np.zeros(len(d)), groups=names)
    half = (found.difference.high - found.difference.low) / 2
    reach = scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)
    assert found.smallest == pytest.approx(half * reach / 1.96, rel=0.15)


def test_the_win_rate_counts_a_group_once() -> None:
    """Ten pairs that move together win together."""
    names, held = np.repeat(np.arange(30), 10), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        d = (rng.normal(size=30)[names] > 0) * 2.0 - 1 + 0.01 * rng.normal(size=300)
        rate = scoring.wilson_of_groups(d > 0, names)
        held += rate.low <= 0.5 <= rate.high
    assert abs(held / 300 - 0.95) <= 0.04
    found = scoring.compare_pairs(d, np.zeros(300), groups=names)
    assert found.win_rate == rate
    sure = scoring.compare_pairs(np.arange(1.0, 301), np.zeros(300), groups=names).win_rate
    assert sure is not None
    assert sure.high == 1
    assert sure.low == pytest.approx(scoring.wilson(30, 30).low, abs=0.02)
    assert scoring.compare_pairs([1.0, 1, 0], [0.0] * 3, groups=[0, 0, 1]).win_rate is None


@pytest.mark.parametrize("groups", [1, 4])
def test_the_win_rate_of_groups_without_a_common_cause_is_wilsons(groups: int) -> None:
    wins = np.random.default_rng(3).random(2000) < 0.7
    found = scoring.wilson_of_groups(wins, np.arange(2000) // groups)
    peer = scoring.wilson(int(wins.sum()), 2000)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.006)


def test_fewer_pairs_than_the_test_needs_can_tell_nothing() -> None:
    """All 5 of 5 won: the test has p 2/32 at least."""
    found = scoring.compare_pairs([1.0, 1.1, 0.9, 1.05, 1.2], [0.0] * 5)
    assert found.p == pytest.approx(2 / 32)
    assert (found.tells, found.needed) == (False, 6)
    text = found.verdict("new", "old")
    assert "Fewer than 6 pairs can show no difference, at a level of 0.95." in text
    assert "To find 1.1, use about 6 pairs." in text
    six = scoring.compare_pairs([1.0, 1.1, 0.9, 1.05, 1.2, 1.1], [0.0] * 6)
    assert (six.tells, six.needed) == (True, None)


def test_fewer_than_five_pairs_have_no_interval() -> None:
    found = scoring.compare_pairs([0.31, 0.29, 0.33, 0.3], [0.3, 0.3, 0.31, 0.29])
    assert found.interval is None
    assert "the difference is +0.0075, p 0.5. Fewer than 6 pairs" in found.verdict()
    five = scoring.compare_pairs([0.31, 0.29, 0.33, 0.3, 0.35], [0.3, 0.3, 0.31, 0.29, 0.36])
    assert five.interval == five.difference
    assert f"the difference is {five.difference.show('{:+.4f}')}, p " in five.verdict()
    groups = scoring.compare_pairs(BASE[:8], BETTER[:8], groups=[0, 0, 1, 1, 2, 2, 3, 3])
    assert groups.interval is None


def test_equal_differences_have_a_verdict() -> None:
    found = scoring.compare_pairs([0.3] * 3, [0.2] * 3)
    assert "3 pairs are too few to tell A and B apart" in found.verdict()
    assert scoring.compare_pairs([0.3] * 8, [0.2] * 8).verdict().startswith("A scores higher")


def test_differences_of_rounding_need_no_pairs() -> None:
    scores = np.random.default_rng(0).random(12)
    found = scoring.compare_pairs(scores, scores * (1 + 1e-16) + 1e-17)
    assert (found.ties, found.needed) == (12, None)
    assert found.verdict() == "A and B score the same on each of 12 pairs."
    swapped = scores.reshape(2, 6)[::-1].ravel()  # other differences, whose mean is rounding
    even = scoring.compare_pairs(scores, swapped)
    assert (even.ties, even.needed) == (0, None)
    assert "To find" not in even.verdict()


def test_what_is_needed_is_more_than_there_is() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = scoring.compare_pairs(rng.exponential(size=8) + rng.normal(size=8), np.zeros(8))
        assert found.tells or found.needed is None or found.needed >= 9
    tiny = [1.0, -1.0] * 10 + [1e-4]
    assert "use more than 1,000,000 pairs." in scoring.compare_pairs(tiny, [0.0] * 21).verdict()


def test_groups_are_named_in_the_verdict() -> None:
    names = np.repeat(np.arange(12), 8)
    d = np.random.default_rng(0).normal(size=12)[names]
    text = scoring.compare_pairs(d, np.zeros(96), groups=names).verdict()
    assert text.startswith("12 groups of pairs are too few")
    assert "With 12 groups of pairs, a difference of " in text
    assert text.endswith(" groups of pairs.")


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (([1.0, 2.0], [1.0]), ShapeError, "2 scores cannot be compared with 1 pair by pair"),
        (([1.0], [2.0]), ConfigError, "at least 2 values"),
        (([1.0, np.nan], [1.0, 1.0]), NumericalError, "the first scores must be finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(given: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        scoring.compare_pairs(*given)
