"""AUROC, FPR at a TPR and average precision agree with scikit-learn; NaN counts as wrong."""

import math

import pytest
import torch
from sklearn import metrics

from ecliptic.errors import ShapeError
from ecliptic.scoring import auroc, average_precision, false_positive_rate


def drawn(seed: int, *, ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    scores = torch.randn(400, generator=made, dtype=torch.float64)
    truth = torch.rand(400, generator=made) < 0.3
    scores = scores + truth
    return (scores.mul(3).round() if ties else scores), truth


@pytest.mark.parametrize("ties", [False, True])
def test_measures_agree_with_scikit_learn(ties: bool) -> None:
    scores, truth = drawn(1, ties=ties)
    positive, negative = scores[truth], scores[~truth]
    assert auroc(positive, negative) == pytest.approx(metrics.roc_auc_score(truth, scores))
    peer = metrics.average_precision_score(truth, scores)
    assert average_precision(scores, truth) == pytest.approx(peer)
    for recall in (0.5, 0.8, 0.95, 1.0):
        fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
        wanted = fpr[tpr >= recall - 1e-12][0]
        assert false_positive_rate(positive, negative, recall) == pytest.approx(wanted)


def test_average_precision_is_that_of_clip_benchmark_without_ties() -> None:
    """Its rule: the mean over the positives of precision at their place."""
    scores, truth = drawn(2, ties=False)
    found = truth[scores.argsort(descending=True)]
    precision = found.double().cumsum(0) / torch.arange(1, 401)
    assert average_precision(scores, truth) == pytest.approx(float(precision[found].mean()))


def test_nan_is_below_the_negatives_or_above_the_positives() -> None:
    nan, good = torch.tensor([math.nan]), torch.tensor([0.9])
    assert auroc(nan, good) == 0
    assert auroc(good, nan) == 0
    assert false_positive_rate(good, nan) == 1
    assert average_precision(torch.tensor([math.nan, 0.1]), torch.tensor([True, False])) == 0.5
    assert average_precision(torch.tensor([0.5, math.nan]), torch.tensor([True, False])) == 0.5


def test_without_positives_or_negatives_there_is_no_number() -> None:
    none, some = torch.tensor([]), torch.tensor([1.0])
    assert math.isnan(auroc(none, some))
    assert math.isnan(false_positive_rate(some, none))
    assert math.isnan(average_precision(some, torch.tensor([False])))
    with pytest.raises(ShapeError, match="must both be"):
        average_precision(some, torch.tensor([True, False]))
