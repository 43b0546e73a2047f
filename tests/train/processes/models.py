"""The tiny run that the tests of several processes make, and its batches."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, TextConfig, ViTConfig
from ecliptic.train.batch import Batch, TextPairs
from ecliptic.train.settings import DataSettings, OptimSettings, TrainSettings

SPEC = TokenizerSpec(merges=20, context=12)
SIZES = ClipConfig(
    embed=12,
    image=ViTConfig(image_size=16, patch_size=8, width=20, depth=2, heads=2, mlp=37),
    text=TextConfig(
        vocabulary=SPEC.vocabulary,
        context=SPEC.context,
        end_of_text=SPEC.end_of_text,
        width=18,
        depth=2,
        heads=2,
        mlp=31,
    ),
)


def tiny_settings(**fields: Any) -> TrainSettings:
    """Settings of a run of seconds; widths that no number of processes divides."""
    given: dict[str, Any] = {
        "steps": 5,
        "precision": "fp32",
        "model": SIZES,
        "image_spec": ImageSpec(size=16),
        "tokenizer_spec": SPEC,
        "data": DataSettings(batch=17),
        "optim": OptimSettings(warmup=2, rate=1e-3),
    }
    return TrainSettings(**given | fields)


def draw_batch(pairs: int, seed: int = 1, *, texts: int = 0) -> Batch:
    """Random pixels and texts of different lengths; a few captions are equal."""
    g = torch.Generator().manual_seed(seed)
    tokens, lengths = _draw_texts(pairs, g)
    pixels = torch.randn(pairs, 3, 16, 16, generator=g)
    batch = Batch(pixels, tokens, lengths, torch.randint(0, 15, (pairs,), generator=g))
    if not texts:
        return batch
    return replace(batch, pairs=TextPairs(*_draw_texts(2 * texts, g), torch.arange(texts) // 2))


def _draw_texts(count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    lengths = torch.randint(3, SPEC.context, (count,), generator=g)
    tokens = torch.randint(0, 200, (count, SPEC.context), generator=g)
    tokens[torch.arange(count), lengths - 1] = SPEC.end_of_text
    return tokens, lengths
