"""clip skip, counted in one way, with the numbers other tools have for the same layer.

Here, as in diffusers, `clip_skip=k` reads k hidden layers before the one the family reads; None and
0 are the family's own. Sources: diffusers `encode_prompt`; stable-diffusion-webui
`CLIP_stop_at_last_layers`; ComfyUI `CLIPSetLastLayer`; InvokeAI `skipped_layers`.
"""

from dataclasses import dataclass

from ecliptic.diffusion.families import EncoderRule
from ecliptic.errors import ConfigError


@dataclass(frozen=True)
class SkipNames:
    """What tools call one number of skipped layers on SD 1.x."""

    diffusers: int | None
    a1111: int  # also kohya's --clip_skip and stable-diffusion.cpp
    comfyui: int  # stop_at_clip_layer
    invokeai: int


def skip_names(clip_skip: int | None) -> SkipNames:
    """The numbers of other tools for `clip_skip` on SD 1.x."""
    k = clip_skip or 0
    return SkipNames(clip_skip or None, k + 1, -(k + 1), k)


def skipped_layer(rule: EncoderRule, layer: int, clip_skip: int | None, depth: int) -> int:
    """The hidden layer that `clip_skip` leads to from the family's own `layer`.

    Raises:
        ConfigError: no whole number of layers, or more than the encoder has.
    """
    k = clip_skip or 0
    if type(k) is not int or k < 0:
        raise ConfigError(
            f"clip_skip counts skipped layers from 0, got {clip_skip!r}; A1111's N is N - 1 here, "
            "ComfyUI's -N is N - 1."
        )
    if depth + 1 + layer - k < 0:
        raise ConfigError(
            f"clip_skip {k} leads below the first layer: {rule.part} has {depth} blocks and this "
            f"family reads layer {layer}, so at most {depth + 1 + layer} can be skipped."
        )
    return layer - k
