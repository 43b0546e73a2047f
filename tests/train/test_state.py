"""A run goes on from its state bit for bit."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ecliptic.errors import CheckpointError
from ecliptic.train import TrainSettings
from ecliptic.train.settings import EmaSettings, SigLIPConfig, TowerSettings
from ecliptic.train.state import pack, unpack

from .trainees import SETTINGS, WITH_BASIC, WITH_RESNET, make_batch, make_stepper

CASES = {
    "plain": SETTINGS,
    "micro": replace(SETTINGS, micro=7),
    "frozen": replace(SETTINGS, trains="text", text=TowerSettings(freeze_layers=2, rate_decay=0.5)),
    "sigmoid with average": replace(SETTINGS, loss=SigLIPConfig(), ema=EmaSettings(decay=0.9)),
    "resnet": replace(WITH_RESNET, ema=EmaSettings(decay=0.9)),
    "basic blocks": replace(WITH_BASIC, ema=EmaSettings(decay=0.9)),
}


def run(settings: TrainSettings, cut: int, dropout: float) -> dict[str, Tensor]:
    """The state after six steps; `cut`: the step after which a new stepper goes on."""
    side = 32 if settings.pixels.size == 32 else 16
    stepper = make_stepper(settings, dropout=dropout)
    torch.manual_seed(7)
    for number in range(6):
        if number == cut:
            tensors, facts = pack(stepper)
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            torch.manual_seed(99)
            stepper = make_stepper(replace(settings, seed=5), dropout=dropout)
            unpack(stepper, tensors, facts)
            assert torch.equal(torch.get_rng_state(), tensors["random.0"])
        stepper.step(make_batch(10, side=side, seed=number), number)
    return pack(stepper)[0]


@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_on_bit_for_bit(name: str) -> None:
    settings = CASES[name]
    dropout = 0.3 if name in ("plain", "micro") else 0.0
    whole = run(settings, -1, dropout)
    for cut in (0, 3):
        found = run(settings, cut, dropout)
        assert found.keys() == whole.keys()
        for key, tensor in whole.items():
            assert torch.equal(found[key], tensor), key


def test_a_state_holds_plain_tensors_and_facts() -> None:
    stepper = make_stepper(replace(SETTINGS, ema=EmaSettings(decay=0.9)))
    stepper.step(make_batch(), 0)
    tensors, facts = pack(stepper)
    assert facts == {"skipped": 0, "averaged_steps": 1}
    assert not any(tensor.requires_grad for tensor in tensors.values())
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    kinds = {name.split(".")[0] for name in tensors}
    assert kinds == {"weights", "average", "optimiser", "random"}
    assert "optimiser.exp_avg.model.image.blocks.0.mlp.up.weight" in tensors


def test_bad_steps_in_a_row_are_counted_across_a_resume() -> None:
    stepper = make_stepper()
    bad = make_batch()
    bad.pixels[0] = float("nan")
    stepper.step(bad, 0)
    stepper.step(bad, 1)
    tensors, facts = pack(stepper)
    again = make_stepper()
    unpack(again, tensors, facts)
    again.step(bad, 2)
    assert again.skipped == 3


def test_the_state_of_other_settings_is_refused() -> None:
    stepper = make_stepper()
    stepper.step(make_batch(), 0)
    tensors, facts = pack(stepper)
    with pytest.raises(CheckpointError, match="the weights are those of another model"):
        unpack(make_stepper(replace(SETTINGS, loss=SigLIPConfig())), tensors, facts)
    with pytest.raises(CheckpointError, match="the states of the optimiser are those of another"):
        unpack(make_stepper(replace(SETTINGS, trains="text")), tensors, facts)
    with pytest.raises(CheckpointError, match="the averaged weights are those of another"):
        unpack(make_stepper(replace(SETTINGS, ema=EmaSettings(decay=0.9))), tensors, facts)
