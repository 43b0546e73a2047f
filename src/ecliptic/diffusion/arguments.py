"""Turns a conditioning into keyword arguments of diffusers: one function per kind of pipeline.

The caller leaves out arguments without a tensor. B prompts, T tokens, D width, N images.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from ecliptic.diffusion.micro_conditioning import Sizes
from ecliptic.errors import ConfigError


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
    def sizes(self) -> Sizes | None:
        """Image sizes and scores, if the call stated any."""

    @property
    def wordless(self) -> bool:
        """Whether the prompts have no tokens of their own."""

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
    """SD3, FLUX: the pooled vectors too."""
    return prompt_embeds(c) | pooled_alone(c)


def pooled_alone(c: Parts) -> dict[str, Any]:
    """HunyuanVideo, HiDream: the pooled vectors, beside what a language model gives."""
    return {
        "pooled_prompt_embeds": c.pooled,
        "negative_pooled_prompt_embeds": c.negative and c.negative.pooled,
    }


def kandinsky5(c: Parts) -> dict[str, Any]:
    """Kandinsky 5: the pooled vectors, beside what Qwen gives."""
    return {
        "prompt_embeds_clip": c.pooled,
        "negative_prompt_embeds_clip": c.negative and c.negative.pooled,
    }


def stable_diffusion_xl(c: Parts) -> dict[str, Any]:
    """SDXL: the pooled vectors, and the sizes of the call; height first."""
    return with_pooled(c) | _list_sizes(c.sizes)


def refiner(c: Parts) -> dict[str, Any]:
    """SDXL's refiner: as the base, and the scores."""
    scores: dict[str, Any] = {}
    if c.sizes is not None:
        scores["aesthetic_score"] = c.sizes.aesthetic
        scores["negative_aesthetic_score"] = c.sizes.negative_aesthetic
    return stable_diffusion_xl(c) | scores


def stable_cascade(c: Parts) -> dict[str, Any]:
    """Stable Cascade: the pooled vectors under its own names."""
    return prompt_embeds(c) | {
        "prompt_embeds_pooled": c.pooled,
        "negative_prompt_embeds_pooled": c.negative and c.negative.pooled,
    }


def unclip(c: Parts) -> dict[str, Any]:
    """unCLIP: the text for one pipeline, or the image for the one of variations."""
    _refuse_both(c, "UnCLIPPipeline takes a prompt, and UnCLIPImageVariationPipeline an image")
    none = c.negative if c.pooled is not None else None
    if none is not None and not (none.wordless and none.pooled is not None and none.pooled.any()):
        raise ConfigError(
            "UnCLIPPipeline encodes an empty negative prompt itself and takes no other, so this "
            "one, or the zeros of force_zeros_for_empty_prompt, would be lost; leave it out, or "
            "give c.negative to the prior yourself."
        )
    if c.pooled is None:
        return {"image_embeddings": c.image}
    return {"text_model_output": (c.pooled, c.tokens), "text_attention_mask": c.mask}


def kandinsky_prior(c: Parts) -> dict[str, Any]:
    """Kandinsky: the text for the prior network, or the image for the decoder's pipeline.

    The two sides of the text are one batch, negatives first.
    """
    _refuse_both(c, "Kandinsky's prior takes a prompt, and its decoder an image")
    if c.pooled is None:
        return {
            "image_embeds": c.image,
            "negative_image_embeds": c.negative and c.negative.image,
        }
    return {
        "proj_embedding": _join_sides(c, "pooled"),
        "encoder_hidden_states": _join_sides(c, "tokens"),
        "attention_mask": _join_sides(c, "mask"),
    }


def video_diffusion(c: Parts) -> dict[str, Any]:
    """Stable Video Diffusion's UNet: images of both sides in one batch, negatives first."""
    return {"encoder_hidden_states": _join_sides(c, "image")}


def image_states(c: Parts) -> dict[str, Any]:
    """Wan's transformer: the image, which both sides read."""
    return {"encoder_hidden_states_image": c.image}


def ip_adapter(c: Parts) -> dict[str, Any]:
    """IP-Adapter: a list with the (2, N, ...) tensor of one adapter, negatives first."""
    if c.image is None or c.negative is None or c.negative.image is None:
        return {}
    return {"ip_adapter_image_embeds": [torch.stack([c.negative.image, c.image])]}


def flux_ip_adapter(c: Parts) -> dict[str, Any]:
    """FLUX's IP-Adapter: a list with the (1, N, E) tensor of one adapter, for each side."""
    none = None if c.negative is None else c.negative.image
    return {
        "ip_adapter_image_embeds": None if c.image is None else [c.image[None]],
        "negative_ip_adapter_image_embeds": None if none is None else [none[None]],
    }


def _join_sides(c: Parts, name: str) -> Tensor | None:
    """Concatenate one tensor of both sides, negatives first; a missing side is left out."""
    both = [x for x in (getattr(c.negative, name, None), getattr(c, name)) if x is not None]
    return torch.cat(both) if both else None


def _list_sizes(sizes: Sizes | None) -> dict[str, Any]:
    """The arguments for sizes, all of them: the pipelines fill in a missing one by other rules."""
    if sizes is None:
        return {}
    none = sizes.of_negative()
    return {
        f"{side}{name}": tuple(value)  # lists would not add up in the pipelines
        for side, own in (("", sizes), ("negative_", none))
        for name, value in (
            ("original_size", own.original),
            ("crops_coords_top_left", own.crop),
            ("target_size", own.original if own.target is None else own.target),
        )
    }


def _refuse_both(c: Parts, why: str) -> None:
    if c.pooled is not None and c.image is not None:
        raise ConfigError(f"{why}, but none takes both; call the conditioner once for each.")
