"""Calibration errors, Brier score and log loss: known numbers, torchmetrics, scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss as peer_log_loss

from ecliptic.errors import ShapeError
from ecliptic.scoring import (
    NONE,
    Reliability,
    brier_score,
    calibration_error,
    chances_of,
    log_loss,
    reliability_bins,
)
from tests import peers
from tests.scoring.labels.golden import honest, noisy_logits


def bins_of(probabilities: torch.Tensor, truth: torch.Tensor, bins: int = 15) -> Reliability:
    sure, best = probabilities.max(dim=1)
    return reliability_bins(sure, best == truth, bins)


def test_known_calibration_errors() -> None:
    logits, truth = noisy_logits()
    p = (2 * logits).softmax(1)
    found = bins_of(p, truth)
    assert found.expected_error == pytest.approx(0.154936, abs=1e-6)
    assert found.largest_error == pytest.approx(0.401692, abs=1e-6)
    assert found.squared_error == pytest.approx(0.192024, abs=1e-6)
    assert log_loss(p, truth) == pytest.approx(1.347557, abs=1e-6)
    assert calibration_error(p, truth) == pytest.approx(found.expected_error, abs=1e-12)


@pytest.mark.parametrize("bins", [5, 15, 40])
def test_calibration_errors_agree_with_torchmetrics(bins: int) -> None:
    logits, truth = honest(500, 7, seed=1)
    p = (1.7 * logits).softmax(1)
    found = bins_of(p, truth, bins)
    measure = peers.torchmetrics("classification").multiclass_calibration_error
    ours = {"l1": found.expected_error, "max": found.largest_error, "l2": found.squared_error}
    for norm, value in ours.items():
        peer = measure(p.float(), truth, 7, bins, norm)
        assert value == pytest.approx(float(peer), abs=1e-5)
    assert sum(found.counts) == 500


def test_brier_and_log_loss_agree_with_scikit_learn() -> None:
    logits, truth = honest(300, 4, seed=2)
    p = logits.softmax(1)
    assert log_loss(p, truth) == pytest.approx(peer_log_loss(truth, p), abs=1e-12)
    assert brier_score(p, truth) == pytest.approx(brier_score_loss(truth, p), abs=1e-12)


def test_none_of_these_is_what_a_row_lacks_to_one() -> None:
    p = torch.tensor([[0.1, 0.2], [0.9, 0.1]])
    truth = torch.tensor([NONE, 0])
    torch.testing.assert_close(chances_of(p, truth), torch.tensor([0.7, 0.9]).double())
    assert brier_score(p, truth) == pytest.approx((0.01 + 0.04 + 0.09 + 0.01 + 0.01) / 2)


def test_nan_is_never_good() -> None:
    p = torch.tensor([[math.nan, 0.2], [0.9, 0.1]])
    truth = torch.tensor([0, 0])
    assert log_loss(p, truth) == math.inf
    assert brier_score(p, truth) == pytest.approx((2 + 0.02) / 2)
    found = reliability_bins(torch.tensor([math.nan, 1.0]), torch.tensor([False, True]))
    assert (found.counts[0], found.counts[-1]) == (1, 1)
    assert math.isnan(log_loss(p[:0], truth[:0]))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must both be \(N,\)"):
        reliability_bins(torch.ones(3), torch.ones(2))
    with pytest.raises(ShapeError, match=r"\(N,\) places of labels"):
        log_loss(torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ShapeError, match="from 0 to 1, or -1"):
        brier_score(torch.ones(1, 2), torch.tensor([2]))
