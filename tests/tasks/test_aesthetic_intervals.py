"""The interval of Spearman's correlation holds the truth as often as it promises."""

import math

import pytest
import torch

from ecliptic.tasks.aesthetic import training
from ecliptic.tasks.aesthetic.training import _bootstrap_order


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RESAMPLES", 1_000)


def coverage(trials: int, groups: int | None, level_of: float = 0.6, rows: int = 60) -> float:
    """Share of samples of two normal variables whose interval holds the true correlation."""
    truth = 6 / math.pi * math.asin(level_of / 2)  # Spearman's of a Pearson's correlation
    g, held = torch.Generator().manual_seed(0), 0
    for trial in range(trials):
        if groups is None:
            a, noise = torch.randn(2, rows, generator=g, dtype=torch.float64)
            marks = None
        else:  # rows of a group are equal but for a little noise, so only groups count
            marks = torch.arange(rows * 3) // 3
            a, noise = torch.randn(2, rows, generator=g, dtype=torch.float64)[:, marks]
            a = a + 1e-3 * torch.randn(len(marks), generator=g, dtype=torch.float64)
        b = level_of * a + math.sqrt(1 - level_of**2) * noise
        found = _bootstrap_order(a, b, marks, trial)
        held += found.low <= truth <= found.high
    return held / trials


def test_intervals_are_wider_where_rows_are_not_independent() -> None:
    g = torch.Generator().manual_seed(1)
    marks = torch.arange(90) // 9
    a, noise = torch.randn(2, 10, generator=g, dtype=torch.float64)[:, marks]
    b = a + noise
    alone, together = (_bootstrap_order(a, b, m, 0) for m in (None, marks))
    assert alone.value == together.value
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [None, 3])
def test_500_intervals_hold_the_truth_as_promised(groups: int | None) -> None:
    assert abs(coverage(500, groups) - 0.95) <= 0.02


def test_most_intervals_hold_the_truth() -> None:
    assert coverage(30, None) >= 0.8
