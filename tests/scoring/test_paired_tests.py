"""Tests of differences equal SciPy's, and are wrong as rarely as they promise."""

from typing import Any

import numpy as np
import pytest
import scipy.stats

from ecliptic import scoring
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring.intervals import MOST_UNITS


def test_mcnemar_equals_the_published_value() -> None:
    g = np.random.default_rng(3)
    a = g.random(400) < 0.62
    b = np.where(g.random(400) < 0.85, a, g.random(400) < 0.5)
    assert (int((a & ~b).sum()), int((b & ~a).sum())) == (21, 9)
    assert scoring.mcnemar(a, b) == pytest.approx(0.042774, abs=5e-7)
    assert scoring.mcnemar(b, a) == scoring.mcnemar(a, b)
    assert scoring.mcnemar(a, a) == 1
    assert scoring.mcnemar([True, False], [False, True]) == 1


@pytest.mark.parametrize("n", [2, 7, 12])
def test_few_differences_are_tested_with_all_their_signs(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1, n)
    peer = scipy.stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert scoring.sign_flip_test(d) == pytest.approx(peer.pvalue)


def test_many_differences_are_tested_with_random_signs() -> None:
    d = np.random.default_rng(8).normal(0.2, 1, 120)
    peer = scipy.stats.ttest_1samp(d, 0).pvalue
    assert scoring.sign_flip_test(d) == pytest.approx(peer, abs=0.01)
    assert scoring.sign_flip_test(d + 5) == 1 / 10_001
    more = np.random.default_rng(8).normal(0.01, 1, 4 * MOST_UNITS)
    peer = scipy.stats.ttest_1samp(more, 0).pvalue
    assert scoring.sign_flip_test(more, flips=2000) == pytest.approx(peer, abs=0.05)


def test_equal_systems_are_called_different_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(6)
    trials = [scoring.sign_flip_test(rng.standard_t(3, 25), flips=499) for _ in range(500)]
    assert abs(np.mean(np.array(trials) <= 0.05) - 0.05) <= 0.02


def test_no_difference_at_all_is_never_evidence() -> None:
    assert scoring.sign_flip_test(np.zeros(5)) == 1
    assert scoring.sign_flip_test(np.zeros(50)) == 1
    assert scoring.sign_flip_test([0.3]) == 1  # of one, both signs are as far


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: scoring.sign_flip_test([]), ConfigError, "at least one difference"),
        (lambda: scoring.sign_flip_test([np.nan, 1]), NumericalError, "differences must be finite"),
        (lambda: scoring.sign_flip_test([1.0], flips=0), ConfigError, "flips must be at least 1"),
        (lambda: scoring.mcnemar([1, 0], [1]), ShapeError, "2 items and b_right 1"),
        (lambda: scoring.mcnemar([0.5], [1]), ConfigError, "must be true or false"),
    ],
)
def test_what_cannot_be_tested_is_refused(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call()
