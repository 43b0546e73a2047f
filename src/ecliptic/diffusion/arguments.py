"""A conditioning as the keyword arguments of diffusers: one small function per kind of pipeline.

Arguments that have no tensor are left out by the caller. B prompts, T tokens, D width, N images.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor


class Parts(Protocol):
    """The tensors of a conditioning, those of the negative in `negative`."""

    @property
    def tokens(self) -> Tensor | None:
        """(B, T, D)."""

    @property
    def pooled(self) -> Tensor | None:
        """(B, E) or (B, 1, E)."""

    @property
    def mask(self) -> Tensor | None:
        """(B, T) bool."""

    @property
    def image(self) -> Tensor | None:
        """(N, E), (N, 1, E) or (N, T, D)."""

    @property
    def negative(self) -> "Parts | None":
        """What is steered away from."""


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
    """Stable Cascade, whose names of the pooled vectors end differently."""
    return prompt_embeds(c) | {
        "prompt_embeds_pooled": c.pooled,
        "negative_prompt_embeds_pooled": c.negative and c.negative.pooled,
    }


def unclip(c: Parts) -> dict[str, Any]:
    """unCLIP's text side, without a negative."""
    return {"text_model_output": (c.pooled, c.tokens), "text_attention_mask": c.mask}


def kandinsky_prior(c: Parts) -> dict[str, Any]:
    """What Kandinsky's prior network reads, negatives first."""
    return {
        "proj_embedding": _negatives_first(c, "pooled"),
        "encoder_hidden_states": _negatives_first(c, "tokens"),
        "attention_mask": _negatives_first(c, "mask"),
    }


def video_diffusion(c: Parts) -> dict[str, Any]:
    """What Stable Video Diffusion's UNet reads, negatives first."""
    return {"encoder_hidden_states": _negatives_first(c, "image")}


def ip_adapter(c: Parts) -> dict[str, Any]:
    """A list with one adapter: (2, N, ...), negatives first."""
    if c.image is None or c.negative is None or c.negative.image is None:
        return {}
    return {"ip_adapter_image_embeds": [torch.stack([c.negative.image, c.image])]}


def _negatives_first(c: Parts, name: str) -> Tensor | None:
    """One tensor of both sides in one batch, or of the one side there is."""
    both = [x for x in (getattr(c.negative, name, None), getattr(c, name)) if x is not None]
    return torch.cat(both) if both else None
