"""Tiny models in training, their settings and batches."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig, ViTConfig
from ecliptic.train import TrainSettings
from ecliptic.train.batch import Batch, Negatives, TextPairs
from ecliptic.train.settings import DataSettings, OptimSettings
from ecliptic.train.stepping import Stepper, build_loss
from ecliptic.train.trainee import Trainee, open_start

SPEC = TokenizerSpec(merges=30, context=12)
VIT = ViTConfig(image_size=16, patch_size=8, width=16, depth=3, heads=2, mlp=32)
RESNET = ResNetConfig(image_size=32, width=8, depths=(1, 1, 1, 1), heads=4)
TEXT = TextConfig(
    vocabulary=SPEC.vocabulary,
    context=SPEC.context,
    width=16,
    depth=3,
    heads=2,
    mlp=32,
    end_of_text=SPEC.end_of_text,
)
SETTINGS = TrainSettings(
    steps=20,
    precision="fp32",
    model=ClipConfig(embed=16, image=VIT, text=TEXT),
    image_spec=ImageSpec(size=16),
    tokenizer_spec=SPEC,
    data=DataSettings(batch=20),
    optim=OptimSettings(rate=1e-3, warmup=2),
)
WITH_RESNET = replace(
    SETTINGS,
    model=ClipConfig(embed=16, image=RESNET, text=TEXT),
    image_spec=ImageSpec(size=32),
)
WITH_BASIC = replace(
    WITH_RESNET,
    model=ClipConfig(embed=16, image=replace(RESNET, block="basic"), text=TEXT),
)


def make_stepper(
    settings: TrainSettings = SETTINGS, *, dropout: float = 0.0, **more: Any
) -> Stepper:
    """A stepper of random weights; `dropout` behind the embeddings of both towers."""
    trainee, _, _ = open_start(settings)
    if dropout:
        for tower in trainee.towers().values():
            tower.blocks[0].mlp = nn.Sequential(nn.Dropout(dropout), tower.blocks[0].mlp)
    return Stepper(trainee, settings, build_loss(settings.loss), **more)


def make_batch(
    pairs: int = 20,
    *,
    side: int = 16,
    negatives: int = 0,
    texts: int = 0,
    captions: int = 15,
    seed: int = 1,
    spec: TokenizerSpec = SPEC,
) -> Batch:
    """Random pixels and tokens, and `texts` pairs of texts; about `captions` ids differ."""
    generator = torch.Generator().manual_seed(seed)
    tokens, lengths = _make_tokens(pairs, spec, generator)
    ids = torch.randint(0, captions, (pairs,), generator=generator)
    pixels = torch.randn(pairs, 3, side, side, generator=generator)
    hard = None
    if negatives:
        numbers = torch.arange(negatives) + captions - 1  # the first may be that of a pair
        hard = Negatives(*_make_tokens(negatives, spec, generator), numbers)
    more = None
    if texts:
        numbers = torch.arange(texts) // 2  # each comes twice
        more = TextPairs(*_make_tokens(2 * texts, spec, generator), numbers)
    return Batch(pixels, tokens, lengths, ids, negatives=hard, pairs=more)


def gradients_of(trainee: Trainee) -> dict[str, Tensor]:
    """A copy of every gradient."""
    return {n: p.grad.clone() for n, p in trainee.named_parameters() if p.grad is not None}


def largest_error(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """The worst error of a tensor, relative to its size; tiny ones are rounding."""
    assert found.keys() == wanted.keys()
    top = max(float(w.norm()) for w in wanted.values())
    return max(
        float((found[name] - w).norm()) / max(float(w.norm()), 1e-4 * top)
        for name, w in wanted.items()
    )


def _make_tokens(
    rows: int, spec: TokenizerSpec, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(3, spec.context + 1, (rows,), generator=generator)
    tokens = torch.randint(1, spec.start_of_text, (rows, spec.context), generator=generator)
    tokens[:, 0] = spec.start_of_text
    tokens[torch.arange(rows), lengths - 1] = spec.end_of_text
    return tokens.masked_fill(torch.arange(spec.context) >= lengths[:, None], spec.pad), lengths
