"""The linear probe starts at the texts; Tip-Adapter gives the known numbers; both learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import (
    TipAdapter,
    fit_probe,
    fit_tip_adapter,
    stratified_folds,
)


def unit(made: np.random.Generator, *shape: int) -> Tensor:
    return F.normalize(torch.from_numpy(made.normal(size=shape)), dim=-1)


def planted(count: int, seed: int = 0, gap: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Images around centres that the texts point to only roughly: (N, E), (N,), (L, E)."""
    made = np.random.default_rng(seed)
    centres, labels = unit(made, 4, 16), torch.arange(count) % 4
    vectors = F.normalize(centres[labels] + 1.2 * unit(made, count, 16), dim=-1)
    return vectors, labels, F.normalize(centres + gap * unit(made, 4, 16), dim=-1)


def test_tip_adapter_has_the_known_numbers() -> None:
    made = np.random.default_rng(5)
    texts, keys, asked = unit(made, 3, 8), unit(made, 6, 8), unit(made, 2, 8)
    model = TipAdapter(texts, keys, torch.tensor([0, 0, 1, 1, 2, 2]), 100.0, 1.0, 5.5)
    wanted = torch.tensor([-24.301400, 4.747832, 28.254442]).double()
    torch.testing.assert_close(model.logits(asked)[0], wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fit", [fit_probe, fit_tip_adapter])
def test_a_few_images_help_where_the_texts_are_poor(fit: type) -> None:
    vectors, truth, texts = planted(40, gap=3.0)
    asked, right = (rows[40:] for rows in planted(2000)[:2])
    zero = (asked @ texts.T).argmax(1)
    found = fit(vectors, truth, texts, 10.0)
    learned = found.model.logits(asked).argmax(1)
    assert float((learned == right).double().mean()) > float((zero == right).double().mean()) + 0.05
    assert found.held_out.shape == (40, 4)


@pytest.mark.parametrize("fit", [fit_probe, fit_tip_adapter])
def test_images_whose_labels_mean_nothing_change_nothing(fit: type) -> None:
    vectors, truth, texts = planted(200, gap=0.0)
    wrong = truth[torch.randperm(200, generator=torch.Generator().manual_seed(3))]
    texts = torch.zeros_like(texts) + texts[0]  # nothing to lose
    found = fit(vectors, wrong, texts, 1.0)
    before = F.cross_entropy(vectors @ texts.T, wrong)
    assert F.cross_entropy(found.held_out, wrong) <= before + 1e-12


def test_the_probe_is_the_minimum_of_its_loss_and_the_texts_without_images() -> None:
    vectors, truth, texts = planted(60)
    found = fit_probe(vectors, truth, texts, 10.0, strengths=(0.01,))
    weights = found.model.logits(torch.eye(16)).T.requires_grad_()
    loss = F.cross_entropy(vectors @ weights.T, truth)
    (loss + 0.005 * (weights - 10.0 * texts).square().sum()).backward()
    assert weights.grad is not None
    assert float(weights.grad.abs().max()) < 1e-5
    texts_only = fit_probe(vectors, truth, texts, 10.0, strengths=(math.inf,)).model
    torch.testing.assert_close(
        texts_only.logits(vectors), 10.0 * vectors @ texts.T, atol=1e-5, rtol=0
    )


def test_a_probe_from_zero_is_the_logistic_regression_of_scikit_learn() -> None:
    vectors, truth, texts = planted(60)
    found = fit_probe(vectors, truth, torch.zeros_like(texts), 1.0, strengths=(0.05,))
    peer = LogisticRegression(C=1 / (0.05 * 60), fit_intercept=False, tol=1e-8, max_iter=1000)
    peer.fit(vectors, truth)
    wanted = torch.from_numpy(peer.predict_proba(vectors))
    torch.testing.assert_close(found.model.logits(vectors).softmax(1), wanted, atol=1e-5, rtol=0)


def test_a_held_out_image_is_judged_by_a_model_without_it() -> None:
    """A copy of an image with another label cannot be known from the image itself."""
    vectors, truth, texts = planted(24)
    texts = torch.zeros_like(texts) + texts[0]
    found = fit_tip_adapter(vectors, truth, texts, 1.0, alphas=(3.0,), betas=(7.0,))
    seen = found.model.logits(vectors).softmax(1).gather(1, truth[:, None])
    held = found.held_out.softmax(1).gather(1, truth[:, None])
    assert float(seen.mean()) > float(held.mean())


def test_folds_are_even_and_spread_each_label() -> None:
    truth = torch.tensor([0] * 50 + [1] * 7 + [2] * 3)
    part = stratified_folds(truth)
    assert torch.bincount(part).tolist() == [12] * 5
    assert torch.bincount(part[truth == 0]).tolist() == [10] * 5
    assert torch.bincount(part[truth == 1], minlength=5).max() == 2
    assert stratified_folds(truth).equal(part)
    assert stratified_folds(torch.tensor([0, 1])).max() == 1


def test_too_few_images_of_a_label_are_refused() -> None:
    vectors, truth, texts = planted(9)
    truth = truth.clamp(max=2)
    with pytest.raises(ConfigError, match="at least 2 of each label; label 3 has 0, and 0 more"):
        fit_probe(vectors, truth, texts, 10.0)
    with pytest.raises(ConfigError, match="at most 10,000, got 10,004; use a linear probe"):
        fit_tip_adapter(vectors.new_ones(10_004, 16), torch.arange(10_004) % 4, texts, 10.0)
    with pytest.raises(ShapeError, match="must be"):
        fit_tip_adapter(vectors, truth[:3], texts, 10.0)
    with pytest.raises(ConfigError, match="from 0 to 3"):
        fit_tip_adapter(vectors, truth + 2, texts, 10.0)
