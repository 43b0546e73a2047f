"""Encoders of single-file checkpoints condition like the same weights in a pipeline."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ecliptic
from ecliptic.checkpoints.layouts.openai import WITH_VIT
from ecliptic.checkpoints.layouts.transformers import TABLE
from ecliptic.diffusion import conditioner
from tests import tiny
from tests.diffusion import pipelines
from tests.diffusion.parity import XL_FIELDS, check

PROMPT, NEGATIVE = ["a cat!", "two dogs"], "bad!"


@dataclass(frozen=True)
class Stored:
    """One encoder of a file: its part, the prefix and naming of its tensors, and its weights."""

    part: str
    prefix: str
    naming: str
    encoder: str
    whole: bool = False  # one block more than the pipeline's, and a projection


FILES = {
    "sd1": [Stored("clip_l", "cond_stage_model.transformer.", "transformers", "l")],
    "sd2": [Stored("clip_h", "cond_stage_model.model.", "open_clip", "h", whole=True)],
    "sdxl": [
        Stored("clip_l", "conditioner.embedders.0.transformer.", "transformers", "l"),
        Stored("clip_g", "conditioner.embedders.1.model.", "open_clip", "g"),
    ],
    "sdxl-refiner": [Stored("clip_g", "conditioner.embedders.0.model.", "open_clip", "g")],
    "sd3": [
        Stored("clip_l", "text_encoders.clip_l.transformer.", "transformers", "l-identity"),
        Stored("clip_g", "text_encoders.clip_g.transformer.", "transformers", "g"),
    ],
}


def tensors(stored: Stored) -> dict[str, Tensor]:
    weights = dict(pipelines.checkpoint(stored.encoder).weights)
    text = pipelines.ENCODERS[stored.encoder].config.text
    assert text
    generator = torch.Generator().manual_seed(20)
    if stored.whole:
        last = f"text.blocks.{text.depth - 1}."
        more = {n.replace(last, f"text.blocks.{text.depth}."): n for n in weights if last in n}
        for name, like in more.items():
            weights[name] = torch.randn(weights[like].shape, generator=generator) / 8
        weights["text.projection"] = torch.randn(text.width, 36, generator=generator)
    if stored.encoder == "l-identity":  # OpenAI's own projection, which SD3 does not use
        weights["text.projection"] = torch.randn(text.width, 28, generator=generator)
    table = TABLE if stored.naming == "transformers" else WITH_VIT
    named = table.from_native(weights)
    return {stored.prefix + name: tensor.clone() for name, tensor in named.items()}


@cache
def ours(family: str) -> Any:
    """Our conditioner from the file; heads are given, since these small sizes do not imply them."""
    path = pipelines.room() / "files" / f"{family}.ckpt"
    path.parent.mkdir(exist_ok=True)
    state = {n: x for stored in FILES[family] for n, x in tensors(stored).items()}
    tiny.save_state(path, state, global_step=1)
    clips = [load_encoder(path, stored) for stored in FILES[family]]
    return conditioner(family, encoders=clips, any_size=True)


def load_encoder(path: Path, stored: Stored) -> Any:
    text = pipelines.ENCODERS[stored.encoder].config.text
    assert text
    return ecliptic.load(path, part=stored.part, heads=text.heads, device="cpu")


@pytest.mark.parametrize("clip_skip", [None, 1])
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_one_encoder(family: str, clip_skip: int | None) -> None:
    with torch.no_grad(), pipelines.quiet():
        tokens, none = pipelines.peer(family).encode_prompt(
            PROMPT, "cpu", 1, True, negative_prompt=[NEGATIVE] * 2, clip_skip=clip_skip
        )
    found = ours(family)(PROMPT, negative=NEGATIVE, clip_skip=clip_skip)
    check(found, {"tokens": tokens, "negative.tokens": none})


@pytest.mark.parametrize("family", ["sdxl", "sdxl-refiner", "sd3"])
def test_encoders_with_pooled_vectors(family: str) -> None:
    pipe, options, language = pipelines.peer(family), {}, {}
    if family == "sd3":
        options = {"prompt_2": None, "prompt_3": None}
        language = {"t5": pipe._get_t5_prompt_embeds(PROMPT, device="cpu").detach()}
        negatives = [NEGATIVE] * 2
        language["negative_t5"] = pipe._get_t5_prompt_embeds(negatives, device="cpu").detach()
    with torch.no_grad(), pipelines.quiet():
        wanted = pipe.encode_prompt(PROMPT, device="cpu", negative_prompt=NEGATIVE, **options)
    found = ours(family)(PROMPT, negative=NEGATIVE, **language)
    check(found, dict(zip(XL_FIELDS, wanted, strict=True)))


def test_without_a_pipelines_config_no_negative_is_zeros_for_the_base_alone() -> None:
    assert not ours("sdxl")(PROMPT).negative.tokens.any()
    assert ours("sdxl-refiner")(PROMPT).negative.tokens.any()
