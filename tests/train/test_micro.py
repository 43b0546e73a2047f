"""Batches in parts (`micro`) give the gradients of whole ones."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.train import TrainSettings
from ecliptic.train.batch import Batch
from ecliptic.train.settings import DistillationConfig, SigLIPConfig, TowerSettings
from ecliptic.train.stepping import Stepper

from .trainees import (
    SETTINGS,
    WITH_RESNET,
    gradients_of,
    largest_error,
    make_batch,
    make_stepper,
)


def teach(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    images, texts = (
        F.normalize(v.flatten(1)[:, :9], dim=-1) for v in (batch.pixels, batch.pixels.flip(2))
    )
    return images, texts, torch.tensor(2.0)


def accumulate(settings: TrainSettings, batch: Batch, **more: Any) -> tuple[Tensor, Stepper]:
    torch.manual_seed(5)
    stepper = make_stepper(settings, **more)
    torch.manual_seed(6)
    return stepper.accumulate(batch), stepper


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sigmoid": {"loss": SigLIPConfig(bias=-2.0)},
    "frozen image tower": {"trains": "text"},
    "frozen text layers": {"trains": "text", "text": TowerSettings(freeze_layers=2)},
    "checkpointing": {
        "image": TowerSettings(checkpointing=True),
        "text": TowerSettings(checkpointing=True),
    },
}


@pytest.mark.parametrize("negatives", [0, 5])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("micro", [1, 7, 19])
def test_parts_have_the_gradients_of_the_whole(name: str, micro: int, negatives: int) -> None:
    settings, batch = replace(SETTINGS, **CASES[name]), make_batch(negatives=negatives)
    wanted_loss, whole = accumulate(settings, batch)
    loss, parts = accumulate(replace(settings, micro=micro), batch)
    torch.testing.assert_close(loss, wanted_loss, rtol=1e-6, atol=0)
    assert largest_error(gradients_of(parts.trainee), gradients_of(whole.trainee)) < 1e-5
    for ours, theirs in zip(parts.vectors, whole.vectors, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_parts_of_a_distillation_have_the_gradients_of_the_whole() -> None:
    settings = replace(SETTINGS, loss=DistillationConfig(teacher="x", weight=0.6))
    batch = make_batch()
    _, whole = accumulate(settings, batch, teach=teach)
    _, parts = accumulate(replace(settings, micro=7), batch, teach=teach)
    assert largest_error(gradients_of(parts.trainee), gradients_of(whole.trainee)) < 1e-5


def test_parts_equal_the_whole_in_float64() -> None:
    found = []
    for micro in (0, 7):
        stepper = make_stepper(replace(SETTINGS, micro=micro))
        stepper.trainee.double()
        batch = make_batch(negatives=3)
        with stepper.autocast():
            stepper.accumulate(replace(batch, pixels=batch.pixels.double()))
        found.append(gradients_of(stepper.trainee))
    # vectors leave the towers as float32, so only the rounding of those 7 digits is left
    assert largest_error(found[1], found[0]) < 1e-6


def test_dropout_is_the_same_in_both_passes() -> None:
    """One batch in parts must be the gradient of its loss, with the dropout that it had."""
    settings = replace(SETTINGS, micro=7)
    batch = make_batch()
    _, stepper = accumulate(settings, batch, dropout=0.5)
    found = gradients_of(stepper.trainee)
    stepper.trainee.zero_grad()
    torch.manual_seed(6)
    parts = [stepper.trainee(batch.part(i, i + 7)) for i in range(0, 20, 7)]  # the same draws
    images, texts = (torch.cat([part[side] for part in parts]) for side in (0, 1))
    scale = stepper.trainee.model.logit_scale
    stepper.loss(images, texts, scale, captions=batch.captions).backward()
    assert largest_error(found, gradients_of(stepper.trainee)) < 1e-5


def test_random_numbers_after_a_step_do_not_depend_on_the_passes() -> None:
    """The second pass draws nothing anew: what follows is as after one pass."""
    after = []
    for micro in (10, 0):
        stepper = make_stepper(replace(SETTINGS, micro=micro), dropout=0.5)
        torch.manual_seed(6)
        if micro:
            stepper.accumulate(make_batch())
        else:
            for start in (0, 10):
                stepper.trainee(make_batch().part(start, start + 10))
        after.append(torch.rand(4))
    assert torch.equal(*after)
    without = []
    for micro in (0, 5, 20):
        torch.manual_seed(6)
        make_stepper(replace(SETTINGS, micro=micro, seed=3)).accumulate(make_batch())
        without.append(torch.rand(4))
    assert torch.equal(without[0], without[1])
    assert torch.equal(without[0], without[2])


def test_bf16_parts_are_close_to_the_whole() -> None:
    settings = replace(SETTINGS, precision="bf16")
    _, whole = accumulate(settings, make_batch())
    _, parts = accumulate(replace(settings, micro=5), make_batch())
    assert largest_error(gradients_of(parts.trainee), gradients_of(whole.trainee)) < 0.02
    weights = {p.dtype for p in parts.trainee.parameters()}
    assert weights == {torch.float32}


def test_moving_batch_norms_are_refused_and_frozen_ones_are_not() -> None:
    with pytest.raises(ConfigError, match=r'micro = 4 .* batch norms .* trains = "text"'):
        make_stepper(replace(WITH_RESNET, micro=4))
    batch = make_batch(side=32)
    frozen = replace(WITH_RESNET, trains="text")
    _, whole = accumulate(frozen, batch)
    _, parts = accumulate(replace(frozen, micro=7), batch)
    assert largest_error(gradients_of(parts.trainee), gradients_of(whole.trainee)) < 1e-5


def test_negatives_are_shared_among_the_parts() -> None:
    batch = make_batch(20, negatives=9)
    parts = [batch.part(i, i + 7) for i in range(0, 20, 7)]
    assert [len(part) for part in parts] == [7, 7, 6]
    found = [part.negatives for part in parts]
    assert batch.negatives is not None
    assert sum(len(n) for n in found if n) == 9
    joined = torch.cat([n.tokens for n in found if n])
    assert torch.equal(joined, batch.negatives.tokens)
