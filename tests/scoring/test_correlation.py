"""Correlations equal scipy's, also with ties, and never give NaN."""

import numpy as np
import pytest
import torch
from scipy import stats

from ecliptic import scoring
from ecliptic.errors import NumericalError, ShapeError


def numbers(seed: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    a = g.normal(size=40)
    b = a + g.normal(size=40)
    return (a, b) if levels is None else (np.round(a * levels), np.round(b * levels))


@pytest.mark.parametrize("levels", [None, 2, 1])
@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_those_of_scipy(seed: int, levels: int | None) -> None:
    a, b = numbers(seed, levels)
    assert scoring.pearson(a, b) == pytest.approx(stats.pearsonr(a, b)[0], abs=1e-12)
    assert scoring.spearman(a, b) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-12)
    ranks = scoring.average_ranks(torch.from_numpy(a))
    np.testing.assert_array_equal(ranks, stats.rankdata(a))


def test_rows_are_correlated_one_by_one() -> None:
    pairs = [numbers(seed, 2) for seed in range(4)]
    a, b = (torch.tensor(np.array(side)) for side in zip(*pairs, strict=True))
    wanted = [scoring.spearman(*pair) for pair in pairs]
    ranks = scoring.correlate_rows(scoring.average_ranks(a), scoring.average_ranks(b))
    np.testing.assert_allclose(ranks, wanted, atol=1e-12)


def test_lists_and_tensors_may_be_mixed() -> None:
    mixed = scoring.spearman([1, 2, 3], torch.tensor([1.0, 4.0, 9.0]))
    assert mixed == pytest.approx(1, abs=1e-12)
    assert scoring.pearson([1, 2, 3], np.array([3, 2, 1])) == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1, 1e200])
def test_a_list_that_does_not_vary_tells_nothing(scale: float) -> None:
    flat, rising = [0.1 * scale] * 5, [scale * k for k in range(5)]
    for call in (scoring.pearson, scoring.spearman):
        assert call(flat, rising) == call(rising, flat) == call(flat, flat) == 0
        assert call(rising, rising) == pytest.approx(1, abs=1e-12)


def test_what_has_no_correlation_is_refused() -> None:
    with pytest.raises(ShapeError, match="at least two numbers and of one length"):
        scoring.spearman([1, 2, 3], [1, 2])
    with pytest.raises(ShapeError, match="at least two"):
        scoring.pearson([1], [1])
    with pytest.raises(NumericalError, match="leave the items without a value out"):
        scoring.spearman([1, float("nan")], [1, 2])
