"""What one step does beside the gradients: cut them, skip it, keep the temperature in bounds."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ecliptic.train.stepping as stepping
from ecliptic.errors import NumericalError
from ecliptic.train.settings import EmaSettings, OptimSettings, SigLIPConfig
from ecliptic.train.stepping import time_precisions
from ecliptic.train.trainee import open_start

from .trainees import SETTINGS, WITH_RESNET, gradients_of, make_batch, make_stepper


def norm_of(gradients: dict[str, Tensor]) -> float:
    return float(torch.stack([g.double().norm() for g in gradients.values()]).norm())


def test_gradients_are_cut_to_the_largest_norm() -> None:
    optim = replace(SETTINGS.optim, clip=0.1)
    stepper = make_stepper(replace(SETTINGS, optim=optim))
    stepper.accumulate(make_batch())
    whole = gradients_of(stepper.trainee)
    stepper.trainee.zero_grad()
    result = stepper.step(make_batch(), 0)
    assert result.norm == pytest.approx(norm_of(whole), rel=1e-5)
    assert result.norm > 0.1
    cut = gradients_of(stepper.trainee)
    assert norm_of(cut) == pytest.approx(0.1, rel=1e-4)
    factor = 0.1 / result.norm
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient * factor, rtol=1e-4, atol=1e-9)


def test_without_a_limit_gradients_stay_as_they_are() -> None:
    stepper = make_stepper(replace(SETTINGS, optim=replace(SETTINGS.optim, clip=0.0)))
    result = stepper.step(make_batch(), 0)
    assert norm_of(gradients_of(stepper.trainee)) == pytest.approx(result.norm, rel=1e-5)


@pytest.mark.parametrize(("value", "wanted"), [(9.0, math.log(100)), (-3.0, 0.0), (2.0, 2.0)])
def test_the_temperature_stays_in_its_bounds(value: float, wanted: float) -> None:
    stepper = make_stepper(replace(SETTINGS, optim=OptimSettings(rate=1e-6, warmup=1)))
    stepper.trainee.model.logit_scale.data.fill_(value)
    result = stepper.step(make_batch(), 0)
    assert float(stepper.trainee.model.logit_scale.detach()) == pytest.approx(wanted, abs=1e-5)
    assert result.scale == pytest.approx(math.exp(wanted), rel=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_with_bad_gradients_changes_nothing(bad: float) -> None:
    settings = replace(WITH_RESNET, ema=EmaSettings(decay=0.5))
    stepper = make_stepper(settings)
    stepper.step(make_batch(6, side=32), 0)
    assert stepper.average is not None
    before = {name: t.clone() for name, t in everything(stepper).items()}
    batch = make_batch(6, side=32)
    batch.pixels[2, 0, 3, 3] = bad
    result = stepper.step(batch, 1)
    assert result.skipped
    assert stepper.skipped == 1
    after = everything(stepper)
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name  # statistics of batch norms too
    again = stepper.step(make_batch(6, side=32), 2)
    assert not again.skipped
    assert math.isfinite(again.loss)
    assert stepper.skipped == 0


def everything(stepper: Any) -> dict[str, Tensor]:
    found = dict(stepper.trainee.state_dict())
    found |= {f"average {name}": w for name, w in stepper.average.weights.items()}
    for name, parameter in stepper.trainee.named_parameters():
        state = stepper.optimiser.state[parameter]
        found |= {f"{key} {name}": value for key, value in state.items()}
    return found


def test_too_many_bad_steps_in_a_row_end_the_run() -> None:
    optim = replace(SETTINGS.optim, most_skipped=2)
    stepper = make_stepper(replace(SETTINGS, optim=optim))
    bad = make_batch()
    bad.pixels[0] = math.nan
    for number in (0, 1):
        assert stepper.step(bad, number).skipped
    stepper.step(make_batch(), 2)
    for number in (3, 4):
        assert stepper.step(bad, number).skipped
    with pytest.raises(
        NumericalError, match=r"last 3 steps, up to step 6, were not finite; lower optim\.rate"
    ):
        stepper.step(bad, 5)


def test_the_sigmoid_loss_learns_its_bias_and_scale() -> None:
    settings = replace(SETTINGS, loss=SigLIPConfig(bias=-4.0, scale=1.5))
    stepper = make_stepper(settings)
    model, bias = stepper.trainee.model, stepper.trainee.logit_bias
    assert bias is not None
    assert float(model.logit_scale.detach()) == pytest.approx(1.5)
    for number in range(4):
        stepper.step(make_batch(), number)
    assert float(bias.detach()) != -4.0
    assert float(model.logit_scale.detach()) != pytest.approx(1.5, abs=1e-6)


def test_training_lowers_the_loss_of_one_batch() -> None:
    settings = replace(SETTINGS, steps=60, optim=OptimSettings(rate=3e-3, warmup=5))
    stepper = make_stepper(settings)
    batch = make_batch(captions=1000)
    losses = [stepper.step(batch, number).loss for number in range(60)]
    assert losses[0] == pytest.approx(math.log(20), abs=0.8)
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("slow", ["fp32", "bf16"])
def test_the_faster_precision_is_chosen_and_nothing_is_changed(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(WITH_RESNET, precision="auto")
    trainee, _, _ = open_start(settings)
    before = {name: t.clone() for name, t in trainee.state_dict().items()}
    random_state = torch.get_rng_state()
    timed: list[str] = []
    clock = [0.0]

    class Timed(stepping.Stepper):
        def accumulate(self, batch: Any) -> Tensor:
            timed.append(self.settings.precision)
            clock[0] += 2.0 if self.settings.precision == slow else 1.0
            return super().accumulate(batch)

    monkeypatch.setattr(stepping, "Stepper", Timed)
    monkeypatch.setattr(stepping.time, "perf_counter", lambda: clock[0])
    found = time_precisions(trainee, settings, make_batch(6, side=32))
    assert found == {"fp32": 1.0, "bf16": 1.0} | {slow: 2.0}
    assert set(timed) == {"fp32", "bf16"}
    for name, tensor in trainee.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not gradients_of(trainee)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert trainee.training


def test_bf16_computes_in_bf16_over_float32_weights() -> None:
    stepper = make_stepper(replace(SETTINGS, precision="bf16"))
    seen: list[torch.dtype] = []
    block = stepper.trainee.model.image_tower.blocks[0]  # type: ignore[index]
    block.mlp.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))  # type: ignore[union-attr]
    stepper.step(make_batch(), 0)
    assert seen == [torch.bfloat16]
    assert {p.dtype for p in stepper.trainee.parameters()} == {torch.float32}
    assert {v.dtype for v in stepper.vectors} == {torch.float32}
