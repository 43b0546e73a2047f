"""Twenty steps give the weights of open_clip's model, loss and schedule with torch's AdamW."""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from ecliptic.checkpoints import openai_keys
from ecliptic.train.batch import Batch
from ecliptic.train.settings import InfoNCEConfig, LossConfig, OptimSettings, SigLIPConfig
from ecliptic.train.stepping import Stepper, build_loss
from ecliptic.train.trainee import Trainee, copy_model
from tests import peers, tiny, twins

from .trainees import SETTINGS, make_batch

STEPS, PAIRS = 20, 12
OPTIM = OptimSettings(rate=5e-4, warmup=5, decay=0.2, clip=1.0)
CHECKPOINT = tiny.checkpoint("vit", "gelu")


def batches() -> list[Batch]:
    spec = CHECKPOINT.tokenizer_spec
    assert spec
    return [make_batch(PAIRS, side=32, seed=seed, spec=spec) for seed in range(STEPS)]


@cache
def train_peer(kind: str, bias: float | None) -> nn.Module:
    """As `train_one_epoch` of open_clip_train, with its groups of parameters."""
    library = peers.open_clip()
    loss = library.ClipLoss() if kind == "InfoNCE" else library.loss.SigLipLoss()
    from open_clip_train.scheduler import cosine_lr

    model: Any = copy.deepcopy(twins.open_clip("vit", "gelu")).train().requires_grad_(True)
    if bias is not None:
        model.logit_bias = nn.Parameter(torch.tensor(bias))
    plain, decaying = [], []
    for name, weight in model.named_parameters():
        odd = weight.ndim < 2 or any(s in name for s in ("bn", "ln", "bias", "logit_scale"))
        (plain if odd else decaying).append(weight)
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": decaying, "weight_decay": OPTIM.decay},
    ]
    optimiser = torch.optim.AdamW(groups, lr=OPTIM.rate, betas=(0.9, 0.98), eps=1e-6)
    schedule = cosine_lr(optimiser, OPTIM.rate, OPTIM.warmup, STEPS)
    for step, batch in enumerate(batches()):
        schedule(step)
        optimiser.zero_grad()
        loss(*model(batch.pixels, batch.tokens)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip)
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, torch.tensor(100.0).log().item())
    return model  # type: ignore[no-any-return]


def train_ours(loss: LossConfig, bias: float | None, micro: int) -> Trainee:
    settings = replace(SETTINGS, steps=STEPS, optim=OPTIM, loss=loss, micro=micro)
    trainee = Trainee(copy_model(CHECKPOINT), bias).train()
    stepper = Stepper(trainee, settings, build_loss(loss))
    for step, batch in enumerate(batches()):
        stepper.step(batch, step)
    return trainee


@pytest.mark.parametrize(
    ("kind", "micro"),
    [
        ("InfoNCE", 5),
        ("SigLIP", 0),
        pytest.param("InfoNCE", 0, marks=pytest.mark.slow),
        pytest.param("SigLIP", 5, marks=pytest.mark.slow),
    ],
)
def test_twenty_steps_are_open_clips(kind: str, micro: int) -> None:
    bias = None if kind == "InfoNCE" else -10.0
    config = InfoNCEConfig if bias is None else SigLIPConfig
    theirs = train_peer(kind, bias)
    ours = train_ours(config(block=5, mask_duplicates=False), bias, micro)
    found = dict(ours.state_dict())
    weights = theirs.state_dict()
    if bias is not None:
        own, peers_own = found.pop("logit_bias"), weights.pop("logit_bias")
        torch.testing.assert_close(own, peers_own, rtol=0, atol=1e-5)
    wanted = openai_keys(CHECKPOINT.config).to_native(weights).weights
    assert {f"model.{name}" for name in wanted} == found.keys()
    moved = 0.0
    for name, weight in wanted.items():
        difference = float((found[f"model.{name}"] - weight).abs().max())
        assert difference <= 1e-5, (name, difference)
        moved = max(moved, float((weight - CHECKPOINT.weights[name]).abs().max()))
    assert moved > 1e-3
