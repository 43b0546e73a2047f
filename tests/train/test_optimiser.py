"""Rates, weight decay, their groups, and the moving average of weights."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from ecliptic.errors import ConfigError, EclipticError
from ecliptic.train import TrainSettings
from ecliptic.train.optimiser import adamw, rate_at
from ecliptic.train.settings import EmaSettings, OptimSettings, SigLIPConfig, TowerSettings
from ecliptic.train.trainee import Trainee, open_start
from tests import peers

from .trainees import SETTINGS, WITH_BASIC, WITH_RESNET, gradients_of, make_batch, make_stepper


def rates_of(trainee: Trainee, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """The rate of each trained parameter by name."""
    names = {id(parameter): name for name, parameter in trainee.named_parameters()}
    groups = optimiser.param_groups
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def test_only_matrices_decay() -> None:
    trainee, _, _ = open_start(replace(SETTINGS, loss=SigLIPConfig()))
    decaying, plain = sorted(
        adamw(trainee, SETTINGS).param_groups, key=lambda group: -group["weight_decay"]
    )
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.2, 0.0)
    assert all(p.ndim >= 2 for p in decaying["params"])
    assert any(p is trainee.model.logit_scale for p in plain["params"])
    assert any(p is trainee.logit_bias for p in plain["params"])
    assert len(decaying["params"]) + len(plain["params"]) == len(list(trainee.parameters()))


def test_rates_decay_from_layer_to_layer_in_each_tower() -> None:
    settings = replace(
        SETTINGS,
        image=TowerSettings(rate_decay=0.5),
        text=TowerSettings(rate_decay=0.1, rate=4e-3),
    )
    trainee, _, _ = open_start(settings)
    rates = rates_of(trainee, adamw(trainee, settings))
    wanted = {  # three blocks: layers 0 to 4
        "model.image.class_token": 1e-3 / 16,
        "model.image.positions": 1e-3 / 16,
        "model.image.ln_pre.weight": 1e-3 / 16,
        "model.image.blocks.0.mlp.up.weight": 1e-3 / 8,
        "model.image.blocks.2.ln_1.bias": 1e-3 / 2,
        "model.image.ln_post.weight": 1e-3,
        "model.image.projection": 1e-3,
        "model.text.token_embedding.weight": 4e-7,
        "model.text.blocks.1.attention.qkv.weight": 4e-5,
        "model.text.ln_final.bias": 4e-3,
        "model.logit_scale": 1e-3,
    }
    for name, rate in wanted.items():
        assert rates[name] == pytest.approx(rate), name
    assert len(rates) == len(list(trainee.parameters()))


@pytest.mark.parametrize("sizes", [WITH_RESNET, WITH_BASIC], ids=["bottleneck", "basic"])
def test_the_layers_of_a_resnet_are_stem_stages_and_pool(sizes: TrainSettings) -> None:
    settings = replace(sizes, image=TowerSettings(rate_decay=0.5))
    trainee, _, _ = open_start(settings)
    rates = rates_of(trainee, adamw(trainee, settings))
    first = {name.split(".")[2]: None for name in rates if name.startswith("model.image.")}
    assert set(first) == {"stem", "stages", "pool"}
    for start, layer in (("stem.", 0), ("stages.0.", 1), ("stages.3.", 4), ("pool.", 5)):
        found = {r for name, r in rates.items() if name.startswith(f"model.image.{start}")}
        assert found == {1e-3 * 0.5 ** (5 - layer)}, start


def test_a_step_scales_every_rate() -> None:
    stepper = make_stepper(replace(SETTINGS, image=TowerSettings(rate_decay=0.5)))
    stepper.step(make_batch(), 0)  # the first of two steps of warm-up
    rates = rates_of(stepper.trainee, stepper.optimiser)
    assert rates["model.logit_scale"] == pytest.approx(5e-4)
    assert rates["model.image.class_token"] == pytest.approx(5e-4 / 16)


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    settings = OptimSettings(rate=2.0, warmup=4, last_rate=0.5)
    assert [rate_at(step, 100, settings) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert rate_at(52, 100, settings) == pytest.approx(1.25)
    assert rate_at(28, 100, settings) == pytest.approx(0.5 + 0.75 * (1 + math.sqrt(0.5)))
    assert rate_at(99, 100, settings) == pytest.approx(0.5, abs=1e-3)


def test_the_cosine_is_open_clips() -> None:
    peers.open_clip()
    from open_clip_train.scheduler import cosine_lr

    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = cosine_lr(optimiser, 3e-4, 7, 50)
    settings = OptimSettings(rate=3e-4, warmup=7)
    for step in range(50):
        assert rate_at(step, 50, settings) == pytest.approx(theirs(step), rel=1e-9, abs=1e-18)


def test_the_cosine_starts_anew_at_a_restart() -> None:
    settings = OptimSettings(rate=2.0, warmup=4, restarts=(50, 80), restart_rate=0.5)
    assert rate_at(27, 100, settings) == pytest.approx(1.0)
    assert rate_at(49, 100, settings) < 5e-3
    assert rate_at(50, 100, settings) == rate_at(80, 100, settings) == 0.5
    assert rate_at(65, 100, settings) == rate_at(90, 100, settings) == pytest.approx(0.25)


def test_the_other_schedules_have_the_values_of_their_formulas() -> None:
    linear = OptimSettings(rate=2.0, warmup=10, schedule="linear", last_rate=1.0)
    assert [rate_at(s, 110, linear) for s in (9, 10, 60)] == [2.0, 2.0, 1.5]
    constant = OptimSettings(rate=2.0, warmup=10, schedule="constant")
    assert {rate_at(s, 110, constant) for s in (9, 10, 60, 109)} == {2.0}
    root = OptimSettings(rate=2.0, warmup=16, schedule="inverse-sqrt")
    assert [rate_at(s, 200, root) for s in (16, 64, 144)] == pytest.approx([2.0, 1.0, 2 / 3])


@pytest.mark.parametrize(("schedule", "level"), [("constant", 2.0), ("inverse-sqrt", 1.0)])
def test_a_cooldown_is_a_line_to_the_last_rate(schedule: str, level: float) -> None:
    settings = OptimSettings(
        rate=2.0,
        warmup=16,
        schedule=schedule,
        cooldown=8,
        last_rate=0.2,  # type: ignore[arg-type]
    )
    found = [rate_at(s, 72, settings) for s in (64, 68, 71)]
    assert found == pytest.approx([level, (level + 0.2) / 2, 0.2 + (level - 0.2) / 8])


def test_the_moving_average_follows_its_formula() -> None:
    stepper = make_stepper(replace(SETTINGS, ema=EmaSettings(decay=0.2)))
    assert stepper.average is not None
    wanted = {name: w.clone() for name, w in stepper.trainee.state_dict().items()}
    for step in range(4):
        stepper.step(make_batch(), step)
        decay = min(0.2, (1 + step) / (10 + step))  # 0.1, 0.18, 0.2, 0.2
        now = stepper.trainee.state_dict()
        wanted = {name: e + (1 - decay) * (now[name] - e) for name, e in wanted.items()}
    for name, weight in stepper.average.weights.items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-5, atol=1e-7)
        assert not weight.requires_grad


def test_the_moving_average_copies_the_statistics_of_batch_norms() -> None:
    stepper = make_stepper(replace(WITH_RESNET, ema=EmaSettings(decay=0.9)))
    assert stepper.average is not None
    for step in range(2):
        stepper.step(make_batch(6, side=32), step)
    now, average = stepper.trainee.state_dict(), stepper.average.weights
    for name, _ in stepper.trainee.named_buffers():
        assert torch.equal(average[name], now[name]), name
    counts = [n for n in average if n.endswith("num_batches_tracked")]
    assert counts
    assert {int(average[name]) for name in counts} == {2}


def test_frozen_layers_get_no_gradient_no_decay_and_no_state() -> None:
    settings = replace(
        SETTINGS, image=TowerSettings(freeze_layers=2), text=TowerSettings(freeze_layers=4)
    )
    stepper = make_stepper(settings)
    before = {name: w.clone() for name, w in stepper.trainee.state_dict().items()}
    for step in range(3):
        stepper.step(make_batch(), step)
    trained = {n for n, p in stepper.trainee.named_parameters() if p.requires_grad}
    assert trained == gradients_of(stepper.trainee).keys()
    assert trained == rates_of(stepper.trainee, stepper.optimiser).keys()
    assert len(stepper.optimiser.state) == len(trained)
    text = {n for n in trained if n.startswith("model.text")}
    assert {n.split(".")[2] for n in text} == {"ln_final", "projection"}
    image = {n for n in trained if n.startswith("model.image")}
    assert {n.split(".")[2] for n in image} == {"blocks", "ln_post", "projection"}
    assert not any(n.startswith("model.image.blocks.0") for n in image)
    for name, weight in stepper.trainee.state_dict().items():
        assert torch.equal(weight, before[name]) == (name not in trained), name


def test_a_frozen_tower_stays_as_it_is() -> None:
    for trains, still in (("text", "model.image"), ("image", "model.text")):
        settings = replace(SETTINGS, trains=trains)  # type: ignore[arg-type]
        stepper = make_stepper(settings)
        before = {name: w.clone() for name, w in stepper.trainee.state_dict().items()}
        stepper.step(make_batch(), 0)
        for name, weight in stepper.trainee.state_dict().items():
            assert torch.equal(weight, before[name]) == name.startswith(still), name


@pytest.mark.parametrize(("layers", "moving"), [(0, 5), (1, 4), (3, 2), (5, 0)])
@pytest.mark.parametrize("sizes", [WITH_RESNET, WITH_BASIC], ids=["bottleneck", "basic"])
def test_frozen_batch_norms_keep_their_statistics(
    sizes: TrainSettings, layers: int, moving: int
) -> None:
    settings = replace(sizes, image=TowerSettings(freeze_layers=layers))
    stepper = make_stepper(settings)
    before = {name: b.clone() for name, b in stepper.trainee.named_buffers()}
    stepper.trainee.train()  # a second call changes nothing
    stepper.step(make_batch(6, side=32), 0)
    changed = {
        ".".join(name.split(".")[2:4]) if "stages" in name else name.split(".")[2]
        for name, buffer in stepper.trainee.named_buffers()
        if not torch.equal(buffer, before[name])
    }
    parts = ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]
    assert changed == set(parts[5 - moving :])


def test_freezing_too_much_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"text\.freeze_layers = 5, but this tower has 5 layers"):
        open_start(replace(SETTINGS, text=TowerSettings(freeze_layers=5)))
    with pytest.raises(ConfigError, match="has no effect with trains"):
        open_start(replace(SETTINGS, trains="image", text=TowerSettings(freeze_layers=1)))


def test_checkpointing_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        tower = TowerSettings(checkpointing=checkpointing)
        stepper = make_stepper(replace(SETTINGS, image=tower, text=tower), dropout=0.3)
        torch.manual_seed(6)
        stepper.accumulate(make_batch())
        found.append(gradients_of(stepper.trainee))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-8)
    with pytest.raises(ConfigError, match=r"image\.checkpointing needs a transformer"):
        open_start(replace(WITH_RESNET, image=TowerSettings(checkpointing=True)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "linear", "restarts": (5,)}, "restarts and restart_rate have no effect"),
        ({"schedule": "cosine", "cooldown": 5}, 'cooldown has no effect on schedule = "cosine"'),
        ({"schedule": "constant", "last_rate": 0.1}, "last_rate has no effect"),
        ({"warmup": -1}, r"optim\.warmup must be"),
    ],
)
def test_what_has_no_effect_on_a_schedule_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EclipticError, match=message):
        OptimSettings(**change)
