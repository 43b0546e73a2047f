"""Intervals of a cross-validation hold the truth as often as they promise."""

import math

import pytest
import torch

from ecliptic.scoring import bound_correlation, bound_share, noise_share, spearman, wilson


def coverage(trials: int, groups: int | None, level_of: float = 0.6, rows: int = 60) -> float:
    """Share of samples of two normal variables whose interval holds the true correlation."""
    truth = 6 / math.pi * math.asin(level_of / 2)  # Spearman's of a Pearson's correlation
    g, held = torch.Generator().manual_seed(0), 0
    for _ in range(trials):
        marks = torch.arange(rows) if groups is None else torch.arange(rows * groups) // groups
        a, noise = torch.randn(2, rows, generator=g, dtype=torch.float64)[:, marks]
        if groups is not None:  # rows of a group are equal but for a little, so only groups count
            a = a + 1e-3 * torch.randn(len(marks), generator=g, dtype=torch.float64)
        b = level_of * a + math.sqrt(1 - level_of**2) * noise
        found = bound_correlation(a, b, marks, noise=0)
        held += found.low <= truth <= found.high
    return held / trials


def test_most_intervals_hold_the_truth() -> None:
    assert coverage(60, None) >= 0.85
    assert coverage(60, 3, rows=40) >= 0.85


@pytest.mark.slow
def test_500_intervals_hold_the_truth_as_promised() -> None:
    assert abs(coverage(500, None) - 0.95) <= 0.02
    assert abs(coverage(500, 3, rows=40) - 0.95) <= 0.02
    assert 0.89 <= coverage(500, 3, rows=10) <= 0.97  # 10 groups tell little of their own spread


def test_intervals_are_wider_where_rows_are_not_independent() -> None:
    g = torch.Generator().manual_seed(1)
    marks = torch.arange(90) // 9
    a, noise = torch.randn(2, 10, generator=g, dtype=torch.float64)[:, marks]
    b = a + noise
    alone, together = (bound_correlation(a, b, m, 0) for m in (torch.arange(90), marks))
    assert alone.value == together.value == pytest.approx(spearman(a, b))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_noise_makes_intervals_wider() -> None:
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 90, generator=g, dtype=torch.float64)
    plain, noisy = (bound_correlation(a, b, torch.arange(90), noise) for noise in (0, 1))
    wider = (math.atanh(noisy.high) - math.atanh(noisy.value)) / (
        math.atanh(plain.high) - math.atanh(plain.value)
    )
    assert wider == pytest.approx(math.sqrt(2))


def test_a_perfect_order_has_an_interval() -> None:
    x = torch.arange(30).double()
    for sign in (1, -1):
        for marks in (torch.arange(30), torch.arange(30) // 5):
            found = bound_correlation(x, sign * x, marks, 0)
            assert found.value == pytest.approx(sign)
            assert 0.2 < found.high - found.low + 0.15 < 2
            assert -1 <= found.low <= found.value <= found.high <= 1
    assert bound_correlation(x, torch.zeros(30), torch.arange(30), 0).value == 0


def test_a_share_of_single_rows_is_nearly_that_of_wilson() -> None:
    right = torch.arange(400) % 4 > 0
    found, known = bound_share(right, torch.arange(400), 0), wilson(300, 400)
    assert found.value == known.value
    assert found.low == pytest.approx(known.low, abs=1e-3)
    assert found.high == pytest.approx(known.high, abs=1e-3)


def test_five_groups_that_agree_are_five_observations() -> None:
    found = bound_share(torch.ones(20, dtype=torch.bool), torch.arange(20) // 4, 0)
    assert found.value == found.high == 1
    assert found.low < 0.5


def test_noise_is_told_from_what_is_shared() -> None:
    g = torch.Generator().manual_seed(0)
    x, truth = torch.randn(5, 400, 30, generator=g), torch.randn(30, generator=g)
    for share in (0, 0.3, 1):  # a fold teaches the truth and noise, and fits average three folds
        folds = math.sqrt(3 * share) * torch.randn(5, 30, generator=g)
        folds = folds + math.sqrt(1 - share) * truth / truth.norm() * math.sqrt(30)
        fits = [
            torch.stack([sum(folds[k] for k in range(5) if k not in (a, b)) / 3  # type: ignore[misc]
                         for b in range(5) if b != a])
            for a in range(5)
        ]  # fmt: skip
        found = noise_share([(x[a] @ fits[a].T).T for a in range(5)])
        assert found == pytest.approx(share, abs=0.2)
