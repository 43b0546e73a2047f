"""Turns a conditioning into keyword arguments of diffusers: one function per kind of pipeline.

The caller leaves out arguments without a tensor. B prompts, T tokens, D width, N images.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor


class PromptTensors(Protocol):
    """The tensors of B prompts: of a `Conditioning`, or of an entry of a cache."""

    @property
    def tokens(self) -> Tensor | None:
        """Token vectors, (B, T, D)."""

    @property
    def pooled(self) -> Tensor | None:
        """Pooled vectors, (B, E) or (B, 1, E)."""

    @property
    def mask(self) -> Tensor | None:
        """Mask of the tokens, (B, T) bool."""


class Parts(PromptTensors, Protocol):
    """The tensors of a conditioning; `negative` holds those of the negative prompt."""

    @property
    def image(self) -> Tensor | None:
        """Image vectors, (N, E), (N, 1, E) or (N, T, D)."""

    @property
    def negative(self) -> "Parts | None":
        """The tensors of the negative prompt."""


Arguments: TypeAlias = Callable[[Parts], dict[str, Any]]


def prompt_embeds(c: Parts) -> dict[str, Any]:
    """SD 1.x and 2.x: the tokens of both sides."""
    return {
        "prompt_embeds": c.tokens,
        "negative_prompt_embeds": c.negative and c.negative.tokens,
    }


def with_pooled(c: Parts) -> dict[str, Any]:
    """SDXL, SD3, FLUX: the pooled vectors too."""
    return prompt_embeds(c) | {
        "pooled_prompt_embeds": c.pooled,
        "negative_pooled_prompt_embeds": c.negative and c.negative.pooled,
    }


def stable_cascade(c: Parts) -> dict[str, Any]:
    """Stable Cascade: the pooled vectors under its own names."""
    return prompt_embeds(c) | {
        "prompt_embeds_pooled": c.pooled,
        "negative_prompt_embeds_pooled": c.negative and c.negative.pooled,
    }


def unclip(c: Parts) -> dict[str, Any]:
    """unCLIP: the text side, without a negative."""
    return {"text_model_output": (c.pooled, c.tokens), "text_attention_mask": c.mask}


def kandinsky_prior(c: Parts) -> dict[str, Any]:
    """Kandinsky's prior network: both sides in one batch, negatives first."""
    return {
        "proj_embedding": _join_sides(c, "pooled"),
        "encoder_hidden_states": _join_sides(c, "tokens"),
        "attention_mask": _join_sides(c, "mask"),
    }


def video_diffusion(c: Parts) -> dict[str, Any]:
    """Stable Video Diffusion's UNet: images of both sides in one batch, negatives first."""
    return {"encoder_hidden_states": _join_sides(c, "image")}


def ip_adapter(c: Parts) -> dict[str, Any]:
    """IP-Adapter: a list with the (2, N, ...) tensor of one adapter, negatives first."""
    if c.image is None or c.negative is None or c.negative.image is None:
        return {}
    return {"ip_adapter_image_embeds": [torch.stack([c.negative.image, c.image])]}


def _join_sides(c: Parts, name: str) -> Tensor | None:
    """Concatenate one tensor of both sides, negatives first; a missing side is left out."""
    both = [x for x in (getattr(c.negative, name, None), getattr(c, name)) if x is not None]
    return torch.cat(both) if both else None
