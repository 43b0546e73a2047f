"""Thresholds keep their promises: the published numbers, scipy, and simulated truth."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring import (
    fewest_accepted,
    fewest_positives,
    precision_threshold,
    recall_threshold,
)


def scores(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("recall", "fewest", "places"),
    [
        (0.9, 29, {100: 5, 300: 22, 1000: 85}),
        (0.95, 59, {100: 2, 300: 9, 1000: 39}),
        (0.99, 299, {300: 1, 1000: 5}),
    ],
)
def test_the_recall_rule_has_the_published_numbers(
    recall: float, fewest: int, places: dict[int, int]
) -> None:
    assert fewest_positives(recall) == fewest
    for n, k in places.items():
        found = recall_threshold(scores(n), recall)
        assert (found.k, found.positives) == (k, n)
        assert found.threshold == scores(n).sort().values[k - 1]


@pytest.mark.parametrize("recall", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_the_recall_rule_agrees_with_the_binomial_distribution(
    recall: float, confidence: float
) -> None:
    fewest = fewest_positives(recall, confidence)
    assert recall**fewest <= 1 - confidence + 1e-12
    assert fewest == 1 or recall ** (fewest - 1) > 1 - confidence
    for n in (fewest, fewest + 1, 2 * fewest + 7, 20_000):
        k = recall_threshold(scores(n), recall, confidence).k
        assert stats.binom.sf(k - 1, n, 1 - recall) >= confidence - 1e-9
        assert stats.binom.sf(k, n, 1 - recall) < confidence


def test_too_few_positives_are_refused_with_the_number_that_is_missing() -> None:
    with pytest.raises(ConfigError, match="needs at least 59 positive examples, got 40: 19 are"):
        recall_threshold(scores(40), 0.95)
    assert recall_threshold(scores(59), 0.95).k == 1


@pytest.mark.parametrize("n", [59, 1000])
def test_the_promised_recall_is_kept_in_simulations(n: int) -> None:
    """Scores are uniform, so a threshold t finds exactly 1 - t of all positives."""
    recall, confidence, runs = 0.95, 0.95, 500
    found = [recall_threshold(scores(n, seed), recall, confidence) for seed in range(runs)]
    kept = np.mean([1 - one.threshold >= recall for one in found])
    exact = stats.binom.sf(found[0].k - 1, n, 1 - recall)
    assert confidence <= exact < confidence + 0.02
    assert abs(kept - confidence) <= 0.02


def test_equal_scores_are_found_together_and_nan_never() -> None:
    found = recall_threshold([1.0] * 60 + [2.0] * 40, 0.5)
    assert found.threshold == 1
    assert found.accepts([1.0, 0.99, math.nan, math.inf]).tolist() == [True, False, False, True]


def labelled(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores that are calibrated: the share of positives at a score is the score."""
    made = torch.Generator().manual_seed(seed)
    values = torch.rand(n, generator=made, dtype=torch.float64).sqrt()
    return values, torch.rand(n, generator=made, dtype=torch.float64) < values


def true_precision(threshold: float) -> float:
    """Of scores with the density 2 s: the mean of s over s >= threshold."""
    return (2 / 3) * (1 - threshold**3) / (1 - threshold**2)


def test_the_precision_is_broken_about_as_rarely_as_promised() -> None:
    values = [precision_threshold(*labelled(1000, seed), 0.8).threshold for seed in range(500)]
    broken = np.mean([true_precision(threshold) < 0.8 for threshold in values])
    assert broken <= 0.07, "approximate: at most 2 % more than 5 %"
    naive = []
    for seed in range(200):
        found, truth = labelled(1000, seed)
        order = found.argsort(descending=True)
        share = truth[order].double().cumsum(0) / torch.arange(1, 1001)
        naive.append(float(found[order][(share >= 0.8).nonzero()[-1]]))
    assert np.mean([true_precision(t) < 0.8 for t in naive]) > 0.3, "the reason for the bound"


def test_a_precision_threshold_says_what_it_accepts() -> None:
    values, truth = labelled(2000, 3)
    found = precision_threshold(values, truth, 0.8)
    accepted = found.accepts(values)
    assert (found.accepted, found.right) == (int(accepted.sum()), int(truth[accepted].sum()))
    assert found.prevalence == float(truth.double().mean())
    assert found.recall == float(accepted[truth].double().mean())
    assert found.bound >= 0.8
    level = stats.binomtest(found.right, found.accepted).proportion_ci(0.9, "wilson")
    assert found.bound == pytest.approx(level.low, abs=1e-12)


def test_a_threshold_never_parts_equal_scores() -> None:
    values = torch.tensor([0.9] * 60 + [0.5] * 60)
    truth = torch.tensor([True] * 60 + [True, False] * 30)
    found = precision_threshold(values, truth, 0.9)
    assert (found.threshold, found.accepted, found.right) == (pytest.approx(0.9), 60, 60)


def test_a_precision_that_no_threshold_shows_is_explained() -> None:
    assert fewest_accepted(0.95) == 52
    assert fewest_accepted(0.5) == 3
    with pytest.raises(
        ConfigError, match=r"20 right of 20, which shows 0\.881\. It takes at least 52"
    ):
        precision_threshold(torch.ones(20), torch.ones(20), 0.95)
    with pytest.raises(ConfigError, match="needs labelled examples, got none"):
        precision_threshold([], [], 0.5)


def test_what_is_no_score_or_no_share_is_refused() -> None:
    with pytest.raises(NumericalError, match=r"2 of 3 positive_scores are NaN .* at 1"):
        recall_threshold([1.0, math.nan, math.inf], 0.5)
    for wrong in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match="recall must be a share between 0 and 1"):
            fewest_positives(wrong)
        with pytest.raises(ConfigError, match="confidence must be a share between 0 and 1"):
            fewest_accepted(0.9, wrong)
    with pytest.raises(ConfigError, match=r"at least 0\.5"):
        fewest_accepted(0.9, 0.4)
    with pytest.raises(ShapeError, match="one row of numbers"):
        recall_threshold(torch.ones(2, 2), 0.5)
    with pytest.raises(ShapeError, match="each of the 3 scores"):
        precision_threshold(torch.ones(3), torch.ones(2), 0.5)
    with pytest.raises(ShapeError, match="true or false"):
        precision_threshold(torch.ones(3), torch.tensor([1, 2, 3]), 0.5)
