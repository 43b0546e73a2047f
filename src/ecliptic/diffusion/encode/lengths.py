"""Makes encoded prompts equally long, and joins them.

Each tool makes positive and negative equally long by its own rule: stable-diffusion-webui
`stack_conds` repeats the last vector; ComfyUI repeats the whole sequence up to a common multiple,
which changes no attention result; compel and lpw add chunks of the empty prompt.
Encoders of different contexts (LongCLIP's 248 beside 77) rarely meet at whole chunks: the last
empty chunk is cut where the longer one ends, as ComfyUI-Long-CLIP does for SDXL.
B prompts, T tokens, D width, E vector size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecliptic.diffusion.behaviours import Unequal
from ecliptic.diffusion.conditioning import Conditioning
from ecliptic.diffusion.emphasis.extending import can_extend, common_length, extend
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.options import Emphasis, Options
from ecliptic.errors import ConfigError

MOST_REPEATS = 16  # of the longest prompt
# The rules of the tools of these layouts; the tools of other layouts add empty chunks.
_OF_LAYOUT: dict[str, Unequal] = {"a1111": "repeat last", "comfyui": "repeat whole"}


@dataclass(frozen=True, eq=False)
class Encoding:
    """The output of one encoder for one prompt."""

    sequence: Tensor | None  # (T, D); None if the family reads none
    pooled: Tensor | None  # (E,), likewise
    mask: Tensor  # (T,) bool: tokens up to each chunk's end of text

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.mask)


EncodedPrompt = tuple[Encoding, ...]  # one prompt, by encoder
Empties = Sequence[Encoding | None]  # the empty prompt, one chunk, by encoder; None if not needed


def unequal_rule(options: Options) -> Unequal:
    """The rule that makes prompts equally long under these options."""
    rule = options.behaviour.unequal
    return _OF_LAYOUT.get(options.layout, "empty chunk") if rule == "layout" else rule


def needs_empty(prompts: Sequence[EncodedPrompt], rule: Unequal) -> bool:
    """Whether the empty prompt is needed to make all encodings equally long."""
    lengths = [{one.length for one in prompt} for prompt in prompts]
    if rule == "empty chunk":
        return len(set().union(*lengths)) > 1
    return any(len(of_prompt) > 1 for of_prompt in lengths)


def level(prompt: EncodedPrompt, empties: Empties) -> EncodedPrompt:
    """Make one prompt's encodings equally long with empty chunks, as ComfyUI does for SDXL."""
    length = common_length((one.length for one in prompt), _chunk(empties))
    return lengthen(prompt, length, "empty chunk", empties)


def shared_length(prompts: Sequence[EncodedPrompt], rule: Unequal, empties: Empties) -> int:
    """The length of all prompts of a call under `rule`; `empties` are those of any of them.

    Raises:
        ConfigError: they would have to be repeated too often.
    """
    chunk = _chunk(empties)
    lengths = [common_length((one.length for one in prompt), chunk) for prompt in prompts]
    if rule != "repeat whole":
        return max(lengths) if rule == "repeat last" else common_length(lengths, chunk)
    if (common := math.lcm(*lengths)) > MOST_REPEATS * max(lengths):
        raise ConfigError(
            f"prompts of {', '.join(map(str, sorted(set(lengths))))} tokens have no common "
            f"multiple below {common}, and ComfyUI would repeat them up to it; use a layout of "
            "whole chunks, or another compat."
        )
    return common


def lengthen(prompt: EncodedPrompt, length: int, rule: Unequal, empties: Empties) -> EncodedPrompt:
    """Lengthen each encoding of a prompt to `length` tokens; one without a sequence has no need.

    Raises:
        ShapeError: no number of chunks gives that length, though all contexts are equal.
    """
    contexts = {empty.length for empty in empties if empty is not None}
    return tuple(
        one
        if one.length == length or one.sequence is None
        else _lengthen(one, length, rule, empty, cut=len(contexts) > 1)
        for one, empty in zip(prompt, empties, strict=True)
    )


def join(
    prompts: Sequence[EncodedPrompt],
    family: Family,
    scales: tuple[float, float] = Emphasis().scales,
) -> Conditioning:
    """Join the encoders on the channel axis, and stack the prompts.

    Args:
        prompts: of equal length.
        family: of the conditioner.
        scales: factors of the sequences, if there are two: `Emphasis.scales`.
    """
    sequences = [[e.sequence for e in prompt if e.sequence is not None] for prompt in prompts]
    if len(sequences[0]) == len(scales) and scales != Emphasis().scales:
        sequences = [[x * w for x, w in zip(one, scales, strict=True)] for one in sequences]
    pooled = [[e.pooled for e in prompt if e.pooled is not None] for prompt in prompts]
    return Conditioning(
        family,
        tokens=_stack(sequences),
        pooled=_stack(pooled),
        mask=torch.stack([p[0].mask for p in prompts]) if family.returns_mask else None,
    )


def _stack(parts: Sequence[Sequence[Tensor]]) -> Tensor | None:
    return torch.stack([torch.cat(list(one), dim=-1) for one in parts]) if parts[0] else None


def _lengthen(
    one: Encoding, length: int, rule: Unequal, empty: Encoding | None, *, cut: bool
) -> Encoding:
    if rule == "repeat whole":
        return _map(one, lambda x: x.repeat(length // len(x), *[1] * (x.ndim - 1)))
    if rule == "repeat last":
        more = length - one.length
        return _map(one, lambda x: torch.cat([x, x[-1:].expand(more, *x.shape[1:])]))
    assert empty is not None  # `needs_empty` asked for it
    if cut and not can_extend(one.length, length, empty.length):
        times = math.ceil((length - one.length) / empty.length)
        return _map(one, lambda x, e: torch.cat([x, *[e] * times])[:length], empty)
    return _map(one, lambda x, e: extend(x, length, e), empty)


def _chunk(empties: Empties) -> int:
    """Tokens of a chunk; 0 if no empty prompt is needed, or if the encoders differ in it."""
    found = {empty.length for empty in empties if empty is not None}
    return found.pop() if len(found) == 1 else 0


def _map(one: Encoding, change: Callable[..., Tensor], *others: Encoding) -> Encoding:
    """Apply `change` to the sequence and the mask, together with those of `others`."""
    sequences = [e.sequence for e in (one, *others)]
    return replace(
        one,
        sequence=None if one.sequence is None else change(*sequences),
        mask=change(*(e.mask for e in (one, *others))),
    )
