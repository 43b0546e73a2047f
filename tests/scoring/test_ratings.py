"""Fits of ratings and choices equal scikit-learn's, and find what was planted."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from ecliptic import scoring
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring.ratings.ridge import ALPHAS

WIDE, LONG = (30, 48), (120, 12)  # fewer rows than values of a vector, and more


def rated(rows: int, width: int, noise: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors with a common direction, as those of CLIP; ratings; the planted weight."""
    g = torch.Generator().manual_seed(rows)
    x = F.normalize(1 + 0.8 * torch.randn(rows, width, generator=g, dtype=torch.float64), dim=-1)
    weight = torch.randn(width, generator=g, dtype=torch.float64)
    y = (x - x.mean(0)) @ weight
    spread = noise * y.std() * torch.randn(rows, generator=g, dtype=torch.float64)
    return x, 5 + y / y.std() + spread, weight


@pytest.mark.parametrize("size", [WIDE, LONG])
@pytest.mark.parametrize("alpha", [1e-3, 0.1, 10])
def test_a_ridge_is_that_of_scikit_learn(size: tuple[int, int], alpha: float) -> None:
    x, y, _ = rated(*size)
    peer = Ridge(alpha=alpha).fit(x.numpy(), y.numpy())
    weight, bias = scoring.solve_ridge(x, y, alpha)
    np.testing.assert_allclose(weight, peer.coef_, atol=1e-8)
    assert bias == pytest.approx(peer.intercept_, abs=1e-8)
    fit = scoring.fit_ridge(x, y, torch.arange(len(y)) % 5, [alpha])
    np.testing.assert_allclose(fit.weight, peer.coef_, atol=1e-8)
    assert fit.bias == pytest.approx(peer.intercept_, abs=1e-8)


@pytest.mark.parametrize("size", [WIDE, LONG])
def test_each_fold_is_scored_by_the_others_alone(size: tuple[int, int]) -> None:
    x, y, _ = rated(*size)
    folds = torch.arange(len(y)) % 5
    fit = scoring.fit_ridge(x, y, folds, [0.1])
    for fold in range(5):
        seen = folds != fold
        peer = Ridge(alpha=0.1).fit(x[seen].numpy(), y[seen].numpy())
        np.testing.assert_allclose(fit.held_out[~seen], peer.predict(x[~seen].numpy()), atol=1e-8)
        np.testing.assert_allclose(fit.means[~seen], float(y[seen].mean()))
    changed = y.clone()
    changed[folds == 2] += torch.linspace(-9, 9, int((folds == 2).sum()), dtype=torch.float64)
    again = scoring.fit_ridge(x, changed, folds).held_out
    before = scoring.fit_ridge(x, y, folds).held_out
    torch.testing.assert_close(again[folds == 2], before[folds == 2])
    assert not torch.equal(again[folds == 1], before[folds == 1])


def test_a_planted_weight_is_found_and_noise_is_not() -> None:
    x, y, weight = rated(1500, 24)
    folds = torch.arange(len(y)) % 5
    fit = scoring.fit_ridge(x, y, folds)
    found = F.cosine_similarity(fit.weight, weight, dim=0)
    assert found > 0.99
    assert scoring.spearman(fit.held_out, y) > 0.9
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    noise = scoring.fit_ridge(x, shuffled, folds)
    assert abs(scoring.spearman(noise.held_out, shuffled)) < 0.1
    assert noise.alpha > fit.alpha
    assert fit.alpha in ALPHAS


def test_rows_that_are_not_used_change_nothing() -> None:
    x, y, _ = rated(*LONG)
    folds, used = torch.arange(len(y)) % 5, torch.arange(len(y)) < 60
    found = scoring.cross_predict(x, y, folds, used).held_out
    changed = torch.where(used, y, 0)
    torch.testing.assert_close(scoring.cross_predict(x, changed, folds, used).held_out, found)
    short = scoring.fit_ridge(x[:60], y[:60], folds[:60]).held_out
    torch.testing.assert_close(found[:60], short)


def test_comparable_scores_keep_the_order_of_each_fold() -> None:
    x, y, _ = rated(*LONG)
    folds = torch.arange(len(y)) % 5
    fit = scoring.fit_ridge(x, y, folds)
    for fold in range(5):
        one, other = fit.comparable[folds == fold], fit.held_out[folds == fold]
        assert scoring.pearson(one, other) == pytest.approx(1, abs=1e-9)
    assert float(fit.comparable.std(correction=0)) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("size", [WIDE, LONG])
def test_pairs_that_are_not_used_are_tested_and_teach_nothing(size: tuple[int, int]) -> None:
    one, other, _ = chosen(*size, 20)
    folds, used = torch.arange(len(one)) % 5, torch.arange(len(one)) < len(one) * 2 // 3
    found = scoring.cross_choose(one, other, folds, used)
    short = scoring.fit_choices(one[used], other[used], folds[used])
    torch.testing.assert_close(found.margins[used], short.margins, rtol=1e-5, atol=1e-7)
    assert (found.alpha, len(found.margins)) == (short.alpha, len(one))
    turned = torch.where(used[:, None], one, other), torch.where(used[:, None], other, one)
    again = scoring.cross_choose(*turned, folds, used).margins
    torch.testing.assert_close(again[~used], -found.margins[~used], rtol=1e-5, atol=1e-7)


def chosen(pairs: int, width: int, sharpness: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of unit vectors, the preferred one first, and the planted weight."""
    g = torch.Generator().manual_seed(pairs)
    x = F.normalize(1 + torch.randn(2, pairs, width, generator=g, dtype=torch.float64), dim=-1)
    weight = sharpness * F.normalize(torch.randn(width, generator=g, dtype=torch.float64), dim=0)
    chance = torch.sigmoid((x[0] - x[1]) @ weight)
    first = torch.rand(pairs, generator=g, dtype=torch.float64) < chance
    one = torch.where(first[:, None], x[0], x[1])
    return one, torch.where(first[:, None], x[1], x[0]), weight


@pytest.mark.parametrize("size", [WIDE, LONG])
@pytest.mark.parametrize("alpha", [0.01, 1])
def test_choices_are_those_of_a_logistic_regression(size: tuple[int, int], alpha: float) -> None:
    one, other, _ = chosen(*size, 20)
    pairs = (one - other).numpy()
    both = np.concatenate([pairs, -pairs])  # each pair counts twice in the peer
    marks = np.repeat([1, 0], len(pairs))
    peer = LogisticRegression(C=1 / (2 * alpha), fit_intercept=False, tol=1e-10, max_iter=5000)
    peer.fit(both, marks)
    weight = scoring.solve_choices(one - other, alpha)
    np.testing.assert_allclose(weight, peer.coef_[0], rtol=1e-4, atol=1e-5)
    fit = scoring.fit_choices(one, other, torch.arange(len(one)) % 5, [alpha])
    np.testing.assert_allclose(fit.weight, weight, atol=1e-7)
    seen = torch.arange(len(one)) % 5 != 0
    apart = scoring.solve_choices((one - other)[seen], alpha)
    torch.testing.assert_close(fit.margins[~seen], (one - other)[~seen] @ apart)


def test_a_planted_taste_is_found() -> None:
    one, other, weight = chosen(4000, 10, 60)
    fit = scoring.fit_choices(one, other, torch.arange(len(one)) % 5)
    assert F.cosine_similarity(fit.weight, weight, dim=0) > 0.99
    assert float((fit.margins > 0).double().mean()) > 0.8


def test_a_fold_of_choices_tells_nothing_about_itself() -> None:
    one, other, _ = chosen(*LONG, 20)
    folds = torch.arange(len(one)) % 5
    turned = (folds == 2) & (torch.arange(len(one)) % 3 == 0)
    swapped = torch.where(turned[:, None], other, one), torch.where(turned[:, None], one, other)
    before = scoring.fit_choices(one, other, folds).margins.abs()
    again = scoring.fit_choices(*swapped, folds).margins.abs()
    torch.testing.assert_close(again[folds == 2], before[folds == 2], rtol=1e-6, atol=1e-8)


def test_folds_keep_groups_together_and_have_equal_sizes() -> None:
    groups = torch.tensor([*range(40), *[50] * 9, *[60] * 7, *[70] * 4])
    folds = scoring.split_folds(groups)
    assert all(len(folds[groups == group].unique()) == 1 for group in groups.unique())
    assert torch.bincount(folds).tolist() == [12] * 5
    assert torch.equal(folds, scoring.split_folds(groups))
    assert not torch.equal(folds, scoring.split_folds(groups, seed=1))
    with pytest.raises(ConfigError, match="at least 5 groups, got 2"):
        scoring.split_folds(torch.tensor([1, 1, 1, 2, 2, 2, 2]))


def test_a_share_of_the_groups_is_taken_from_every_fold() -> None:
    groups = torch.arange(100) // 2
    folds = scoring.split_folds(groups)
    used = scoring.take_groups(groups, folds, 0.5)
    assert torch.bincount(folds[used]).tolist() == [10] * 5
    assert torch.equal(used[::2], used[1::2])
    few = scoring.take_groups(groups, folds, 0.01)
    assert torch.bincount(folds[few]).tolist() == [2] * 5


def test_what_teaches_nothing_is_refused() -> None:
    x, y, _ = rated(*LONG)
    folds = torch.arange(len(y)) % 5
    with pytest.raises(ConfigError, match="all 120 ratings are 3, so there is nothing to learn"):
        scoring.fit_ridge(x, torch.full_like(y, 3), folds)
    with pytest.raises(ConfigError, match="at least 3 folds"):
        scoring.fit_ridge(x, y, torch.zeros_like(folds))
    with pytest.raises(ShapeError, match="one for each row"):
        scoring.fit_ridge(x, y[1:], folds)
    with pytest.raises(NumericalError, match="leave the images without a rating out"):
        scoring.fit_ridge(x, y.clone().index_fill(0, torch.tensor(3), torch.nan), folds)
    with pytest.raises(NumericalError, match="leave these images out"):
        scoring.fit_choices(x, x * torch.inf, folds)
    with pytest.raises(ShapeError, match="must have one shape; encode both with one model"):
        scoring.fit_choices(x, x[:, 1:], folds)
