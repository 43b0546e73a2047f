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
    assert found.verdict("new", "old").startswith("new scores higher than old by +0.0")
    assert scoring.compare_pairs(BASE, BETTER).verdict().startswith("A scores lower than B by -0.0")


def test_too_few_pairs_say_what_it_would_take() -> None:
    found = scoring.compare_pairs(BETTER[:12], BASE[:12] + 0.03)
    assert not found.tells
    assert found.needed is not None
    text = found.verdict("new", "old", "pairs")
    assert "12 pairs are too few to tell new and old apart" in text
    assert f"about {found.needed:,} are needed" in text
    assert f"about {found.smallest:.2g} in 4 of 5 cases" in text


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
