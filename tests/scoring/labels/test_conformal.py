"""Conformal sets hold the right label as often as they promise."""

import pytest
import torch

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import ConformalSets, SetKind, fewest_for_sets, fit_sets, nonconformity
from tests.scoring.labels.golden import honest


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_the_mean_coverage_of_many_splits_is_the_promised_one(kind: SetKind) -> None:
    """The probabilities are wrong on purpose: the promise does not depend on them."""
    n, share, splits = 50, 0.9, 1000
    logits, truth = honest(n + 200, 5, seed=1)
    p = (3 * logits).softmax(1)
    made = torch.Generator().manual_seed(0)
    kept = []
    for _ in range(splits):
        order = torch.randperm(len(p), generator=made)
        first, rest = order[:n], order[n:]
        sets = fit_sets(p[first], truth[first], share, kind).contains(p[rest])
        kept.append(sets.gather(1, truth[rest, None]).double().mean())
    assert share - 0.004 <= float(torch.stack(kept).mean()) <= share + 1 / (n + 1) + 0.004


def test_a_level_for_each_label_keeps_the_promise_for_rare_ones() -> None:
    made = torch.Generator().manual_seed(2)
    truth = (torch.rand(6000, generator=made) < 0.1).long()  # label 1 is rare
    logits = torch.randn(6000, 2, generator=made, dtype=torch.float64)
    logits[:, 0] += 1  # and seldom looks likely
    logits[torch.arange(6000), truth] += 1
    p = logits.softmax(1)
    first, rest = slice(0, 3000), slice(3000, None)
    coverage = {}
    for per_label in (False, True):
        sets = fit_sets(p[first], truth[first], 0.9, per_label=per_label).contains(p[rest])
        held = sets.gather(1, truth[rest, None])[:, 0]
        coverage[per_label] = float(held[truth[rest] == 1].double().mean())
    assert coverage[False] < 0.75 < 0.86 < coverage[True] < 0.94


def test_the_scores_are_those_of_the_papers() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3]]).double()
    torch.testing.assert_close(nonconformity(p, "lac"), torch.tensor([[0.8, 0.5, 0.7]]).double())
    torch.testing.assert_close(nonconformity(p, "aps"), torch.tensor([[1.0, 0.5, 0.8]]).double())
    truth, found = torch.zeros(9, dtype=torch.int64), torch.linspace(0.1, 0.9, 9)
    sets = fit_sets(torch.stack([found, 1 - found], dim=1), truth, 0.9)
    assert sets.levels == (pytest.approx(0.9),), "the 9th of 9: ceil(10 * 0.9)"


def test_too_few_examples_are_refused_with_the_number_that_is_needed() -> None:
    assert [fewest_for_sets(share) for share in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    p, truth = torch.full((18, 2), 0.5), torch.tensor([0] * 10 + [1] * 8)
    with pytest.raises(ConfigError, match="need at least 19 examples, got 18"):
        fit_sets(p, truth, 0.95)
    with pytest.raises(ConfigError, match="at least 9 examples of each label; label 1 has 8"):
        fit_sets(p, truth, 0.9, per_label=True)
    with pytest.raises(ConfigError, match="of each label; 'dog' has 8"):
        fit_sets(p, truth, 0.9, per_label=True, names=("cat", "dog"))
    with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
        fewest_for_sets(1.0)
    with pytest.raises(ConfigError, match="none of these"):
        fit_sets(p, torch.full((18,), -1), 0.9)


def test_nan_belongs_to_no_set() -> None:
    sets = ConformalSets(0.9, (0.5,))
    assert sets.contains(torch.tensor([[torch.nan, 0.9]])).tolist() == [[False, True]]
    with pytest.raises(ShapeError, match="2 levels need"):
        ConformalSets(0.9, (0.5, 0.5)).contains(torch.ones(1, 3))
