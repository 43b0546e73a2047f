"""Temperature, Platt and isotonic calibration: known numbers, peers, few and odd examples."""

import numpy as np
import pytest
import torch
from scipy import optimize, special
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import (
    NONE,
    Isotonic,
    IsotonicScaling,
    OpenTemperature,
    Platt,
    PlattScaling,
    Temperature,
    add_none,
    fit_isotonic,
    fit_isotonic_scaling,
    fit_open_temperature,
    fit_platt,
    fit_platt_scaling,
    fit_temperature,
    log_loss,
    log_odds,
    reliability_bins,
)
from tests.scoring.labels.golden import honest, noisy_logits


def test_the_temperature_has_the_known_numbers() -> None:
    logits, truth = noisy_logits()
    found = fit_temperature(2 * logits, truth)
    assert found.value == pytest.approx(1.834078, abs=5e-6)
    p = found.probabilities(2 * logits)
    assert log_loss(p, truth) == pytest.approx(1.208321, abs=1e-6)
    sure, best = p.max(dim=1)
    assert reliability_bins(sure, best == truth).expected_error == pytest.approx(0.08235, abs=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_a_planted_temperature_is_found_at_any_scale_of_logits(size: float) -> None:
    logits, truth = honest(5000, 6, seed=3)
    for towards in (None, 3 * size):
        found = fit_temperature(size * logits, truth, towards=towards)
        assert found.value == pytest.approx(size, rel=0.05)


def test_examples_that_are_all_right_have_no_best_temperature_but_one_near_another() -> None:
    logits, truth = 5 * torch.eye(4).double(), torch.arange(4)
    with pytest.raises(ConfigError, match=r"all 4 right labels have the highest .* towards=1.0"):
        fit_temperature(logits, truth)
    found = fit_temperature(logits, truth, towards=1.0)
    assert 0.5 < found.value < 1
    assert fit_temperature(logits, truth, towards=2.0).value > found.value


def test_the_temperature_near_another_has_the_least_penalised_loss() -> None:
    logits, truth = honest(12, 4, seed=8)
    found = fit_temperature(3 * logits, truth, towards=0.5)

    def loss(log_value: float) -> float:
        value = np.exp(log_value)
        ratio = 0.5 / value
        own = torch.nn.functional.cross_entropy(3 * logits / value, truth, reduction="sum")
        return float(own) + ratio - 1 - np.log(ratio)

    best = optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded")
    assert found.value == pytest.approx(np.exp(best.x), rel=1e-4)


def test_scores_that_say_nothing_are_refused() -> None:
    logits, truth = honest(200, 3, seed=4)
    for towards in (None, 1.0):
        with pytest.raises(ConfigError, match="not higher than those of wrong ones"):
            fit_temperature(-logits, truth, towards=towards)
    named = torch.nn.functional.one_hot(truth, 3).bool()
    with pytest.raises(ConfigError, match=r"^the scores of right .* no rising curve fits"):
        fit_platt_scaling(-log_odds(logits), named)
    odd = log_odds(logits) * torch.tensor([1, -1, 1])
    with pytest.raises(ConfigError, match=r"^label 'b': the scores of right"):
        fit_platt_scaling(odd, named, per_label=True, names="abc")


@pytest.mark.parametrize("smooth", [False, True])
def test_platt_has_the_largest_likelihood(smooth: bool) -> None:
    """The known numbers differ from the maximum by 1e-4; the loss at ours is lower."""
    logits, truth = noisy_logits()
    scores, positive = logits[:, 0], truth == 0
    found = fit_platt(scores, positive, smooth=smooth)
    known = (0.918406, -1.928141) if smooth else (0.958245, -1.957223)
    assert (found.slope, found.offset) == pytest.approx(known, abs=2e-4)
    high, low = int(positive.sum()), int((~positive).sum())
    targets = np.where(positive, (high + 1) / (high + 2), 1 / (low + 2)) if smooth else positive

    def loss(at: np.ndarray) -> float:
        z = at[0] * scores.numpy() + at[1]
        return float(np.mean(np.logaddexp(0, z) - np.asarray(targets, dtype=float) * z))

    best = optimize.minimize(loss, known, method="BFGS", options={"gtol": 1e-9})
    ours = np.array([found.slope, found.offset])
    np.testing.assert_allclose(ours, best.x, atol=2e-5)
    assert loss(ours) <= min(loss(np.array(known)), best.fun) + 1e-14


def test_platt_agrees_with_scikit_learn() -> None:
    logits, truth = noisy_logits()
    a, b = _sigmoid_calibration(logits[:, 0].numpy(), (truth == 0).numpy())
    found = fit_platt(logits[:, 0], truth == 0)
    assert (found.slope, found.offset) == pytest.approx((-a, -b), abs=2e-4)
    wanted = special.expit(found.slope * 0.3 + found.offset)
    assert float(found(torch.tensor(0.3).double())) == pytest.approx(wanted)


def test_parted_scores_have_a_smooth_platt_curve_only() -> None:
    scores, truth = torch.tensor([0.0, 1, 2, 3]), torch.tensor([False, False, True, True])
    with pytest.raises(ConfigError, match="part positives and negatives without a mistake"):
        fit_platt(scores, truth, smooth=False)
    p = fit_platt(scores, truth)(scores)
    assert 0.2 < float(p[0]) < float(p[1]) < 0.5 < float(p[2]) < float(p[3]) < 0.8
    with pytest.raises(ConfigError, match="needs positive and negative examples, got 2 and 0"):
        fit_platt(scores[:2], torch.tensor([True, True]))


@pytest.mark.parametrize("ties", [False, True])
def test_isotonic_curves_agree_with_scikit_learn(ties: bool) -> None:
    logits, truth = noisy_logits()
    scores = logits[:, 0].mul(4).round() if ties else logits[:, 0]
    found = fit_isotonic(scores, truth == 0)
    peer = IsotonicRegression(out_of_bounds="clip").fit(scores, (truth == 0).double())
    asked = torch.linspace(-6, 6, 501).double()
    np.testing.assert_allclose(found(asked), peer.predict(asked.numpy()), atol=1e-12)
    if not ties:
        assert len(set(found.levels)) == 8
        brier = (found(scores) - (truth == 0).double()).square().mean()
        assert float(brier) == pytest.approx(0.119576, abs=1e-6)


def test_a_smooth_isotonic_curve_is_never_certain_and_never_falls() -> None:
    logits, truth = honest(400, 2, seed=5)
    found = fit_isotonic(logits[:, 0] - logits[:, 1], truth == 0, smooth=True)
    assert 0 < min(found.levels) < max(found.levels) < 1
    assert sorted(found.levels) == list(found.levels)
    assert torch.isnan(found(torch.tensor(torch.nan)))
    with pytest.raises(ConfigError, match="must not fall"):
        Isotonic((0.0, 1.0), (0.5, 0.4))
    with pytest.raises(ConfigError, match="as many scores as levels, got 0 and 0"):
        Isotonic((), ())


@pytest.mark.parametrize("per_label", [False, True])
@pytest.mark.parametrize("fit", [fit_platt_scaling, fit_isotonic_scaling])
def test_scalings_give_honest_probabilities(
    per_label: bool, fit: type[PlattScaling] | type[IsotonicScaling]
) -> None:
    logits, truth = honest(3000, 4, seed=6)
    named = torch.nn.functional.one_hot(truth, 4).bool()
    found = fit(log_odds(3 * logits[:2000]), named[:2000], per_label=per_label)  # type: ignore[call-arg]
    assert len(found.curves) == (4 if per_label else 1)
    p = found.probabilities(3 * logits[2000:])
    torch.testing.assert_close(p.sum(dim=1), torch.ones(1000).double())
    sure, best = p.max(dim=1)
    assert reliability_bins(sure, best == truth[2000:]).expected_error < 0.06
    assert log_loss(p, truth[2000:]) < log_loss((3 * logits[2000:]).softmax(1), truth[2000:])
    assert float(found.shares(log_odds(logits)).sum(dim=1).max()) != 1


def test_log_odds_are_those_of_the_softmax_and_never_infinite() -> None:
    logits, _ = honest(50, 4, seed=7)
    torch.testing.assert_close(log_odds(logits), torch.logit(logits.softmax(1)))
    torch.testing.assert_close(
        log_odds(torch.tensor([[1000.0, 0, 1]]))[0, 0].item(), 998.687, atol=1e-3, rtol=0
    )
    assert log_odds(1000 * logits).isfinite().all()
    with pytest.raises(ShapeError, match="at least 2 labels"):
        log_odds(torch.ones(2, 1))


def test_a_row_without_any_probability_says_nothing() -> None:
    flat = IsotonicScaling((Isotonic((0.0,), (0.0,)),))
    assert flat.probabilities(torch.ones(1, 4).double()).tolist() == [[0.25] * 4]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="a temperature must be"):
        Temperature(0.0)
    with pytest.raises(ShapeError, match="2 curves need as many labels, got 3"):
        PlattScaling((Platt(1, 0), Platt(1, 0))).shares(torch.ones(1, 3))
    with pytest.raises(ConfigError, match="needs labelled images, got none"):
        fit_temperature(torch.ones(0, 2), torch.ones(0).long())
    with pytest.raises(ConfigError, match="places from 0 to 1"):
        fit_temperature(torch.ones(1, 2), torch.tensor([2]))
    with pytest.raises(ConfigError, match="must be finite"):
        fit_temperature(torch.full((1, 2), torch.nan), torch.tensor([0]))
    with pytest.raises(ShapeError, match=r"must both be \(N, L\)"):
        fit_platt_scaling(torch.ones(2, 2), torch.ones(2))


def test_a_level_of_none_of_these_has_the_least_penalised_loss() -> None:
    made = torch.Generator().manual_seed(9)
    logits = 30 * torch.randn(60, 3, generator=made, dtype=torch.float64)  # no cosines
    drawn = OpenTemperature(20.0, 35.0).probabilities(logits)
    truth = torch.multinomial(add_none(drawn), 1, generator=made)[:, 0]
    truth = torch.where(truth == 3, NONE, truth)
    found = fit_open_temperature(logits, truth, towards=1.0)
    places = torch.where(truth == NONE, 3, truth)

    def loss(at: np.ndarray) -> float:
        z = torch.nn.functional.pad(logits, (0, 1), value=at[1]) / np.exp(at[0])
        ratio = 1 / np.exp(at[0])
        own = float(torch.nn.functional.cross_entropy(z, places, reduction="sum"))
        return own + ratio - 1 - np.log(ratio)

    best = optimize.minimize(loss, [3.0, 30.0], method="Nelder-Mead", options={"xatol": 1e-7})
    assert (found.value, found.level) == pytest.approx((np.exp(best.x[0]), best.x[1]), rel=1e-4)
    assert 10 < found.value < 40
    assert 20 < found.level < 50


def test_a_few_questions_without_a_mistake_are_not_certain() -> None:
    logits = 10 * torch.tensor([[0.4, 0.1], [0.1, 0.4], [0.1, 0.1]], dtype=torch.float64)
    truth = torch.tensor([0, 1, NONE])
    found = fit_open_temperature(logits, truth, towards=1.0)
    shares = add_none(found.probabilities(logits)).gather(1, torch.tensor([[0], [1], [2]]))
    assert 0.5 < float(shares.min()) < float(shares.max()) < 0.97
    with pytest.raises(ConfigError, match="needs examples of it, got none"):
        fit_open_temperature(logits[:2], truth[:2], towards=1.0)
    with pytest.raises(ConfigError, match="must be finite"):
        OpenTemperature(1.0, float("inf"))


@pytest.mark.parametrize("labels", [3, 10])
def test_a_temperature_of_few_images_makes_good_probabilities_little_worse(labels: int) -> None:
    """Mean log loss over the best temperature, of 12 images, in 60 simulations of two models."""
    logits, truth = honest(4000, labels, seed=10, sharpness=4.0)
    over = {}
    for factor in (1.0, 3.0):  # honest, and too sure
        z, asked = factor * logits[2000:], truth[2000:]
        best = log_loss(fit_temperature(z, asked).probabilities(z), asked)
        losses = []
        for start in range(0, 60 * 12, 12):
            few = slice(start, start + 12)
            found = fit_temperature(factor * logits[few], truth[few], towards=1.0)
            losses.append(log_loss(found.probabilities(z), asked) - best)
        over[factor] = (np.mean(losses), log_loss(z.softmax(1), asked) - best)
    assert over[1.0][0] < 0.06
    assert over[3.0][0] < 0.75 * over[3.0][1], "better than no calibration"
