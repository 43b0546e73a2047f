"""Accuracy and its relatives agree with scikit-learn; ties and NaN are wrong."""

import math

import pytest
import torch
from sklearn import metrics

from ecliptic.errors import ShapeError
from ecliptic.scoring import (
    confusion_matrix,
    label_ranks,
    mean_average_precision,
    mean_per_class,
)
from tests.scoring.labels.golden import honest


def test_accuracies_agree_with_scikit_learn() -> None:
    logits, truth = honest(300, 8, seed=1)
    truth = truth.clamp(max=6)  # one class is not present
    ranks, answers = label_ranks(logits, truth), logits.argmax(1)
    assert float((ranks == 1).double().mean()) == metrics.accuracy_score(truth, answers)
    top5 = metrics.top_k_accuracy_score(truth, logits, k=5, labels=range(8))
    assert float((ranks <= 5).double().mean()) == top5
    balanced = metrics.recall_score(truth, answers, labels=range(7), average="macro")
    assert mean_per_class(ranks == 1, truth) == pytest.approx(balanced)
    wanted = metrics.confusion_matrix(truth, answers, labels=range(8))
    assert confusion_matrix(truth, answers, 8).tolist() == wanted.tolist()


def test_ties_and_nan_are_wrong_though_an_argmax_names_a_label() -> None:
    values = torch.tensor([[1.0, 1.0, 0.0], [math.nan, 2, 1], [3, 2, math.nan], [1, 0, 0]])
    truth = torch.tensor([0, 1, 0, 0])
    assert label_ranks(values, truth).tolist() == [2, 2, 2, 1]
    assert label_ranks(values[1:2], torch.tensor([0])).tolist() == [3]


def test_mean_average_precision_leaves_out_labels_without_images() -> None:
    logits, _ = honest(200, 3, seed=2)
    truth = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) < 0.2
    peer = metrics.average_precision_score(truth, logits, average="macro")
    assert mean_average_precision(logits, truth) == pytest.approx(peer)
    truth[:, 2] = False
    peer = metrics.average_precision_score(truth[:, :2], logits[:, :2], average="macro")
    assert mean_average_precision(logits, truth) == pytest.approx(peer)
    assert math.isnan(mean_average_precision(logits, torch.zeros_like(truth)))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="needs a right label"):
        label_ranks(torch.ones(1, 2), torch.tensor([-1]))
    with pytest.raises(ShapeError, match="must both be"):
        mean_per_class(torch.ones(2), torch.ones(1))
    with pytest.raises(ShapeError, match="must both be"):
        confusion_matrix(torch.ones(2), torch.ones(1), 2)
    with pytest.raises(ShapeError, match="must both be"):
        mean_average_precision(torch.ones(2, 2), torch.ones(2))
    assert math.isnan(mean_per_class(torch.ones(0), torch.ones(0).long()))
