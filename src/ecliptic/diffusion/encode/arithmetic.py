"""ComfyUI's conditioning nodes as arithmetic on `Conditioning` objects.

`combine`, `concat` and `average` take two conditionings of one family; `Conditioning.between` and
`Conditioning.zeroed` take one. None of them encodes anything, and none changes its inputs. All
treat a second pass (`hires`) as the first one, and keep the networks of both.

Source: ComfyUI nodes.py `ConditioningCombine`, `ConditioningConcat`, `ConditioningAverage`,
`ConditioningSetTimestepRange`, `ConditioningZeroOut`. B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ecliptic.checks import check_number
from ecliptic.diffusion.conditioning import Conditioning
from ecliptic.diffusion.tokens.ledger import Ledger
from ecliptic.errors import ConfigError, ShapeError


def combine(a: Conditioning, b: Conditioning) -> Conditioning:
    """Both conditionings side by side: the sampler averages what it predicts under each.

    `alternatives` holds all pairs of a conditioning and its weight, those of `a` first, as AND in
    A1111's dialect. At a step where only some are in their range (`between`), only these count:
    the prediction is `sum w p / sum w`.

    Args:
        a: the first conditioning; the tensors and the negative of the result are its own.
        b: of the same family and as many prompts.

    Raises:
        ConfigError: another family, or only one has a second pass.
        ShapeError: another number of prompts.

    Source: ComfyUI nodes.py `ConditioningCombine`; comfy/samplers.py `calc_cond_batch`.
    """
    _check_pair(a, b, "combined")
    pairs = (*(a.alternatives or ((a, 1.0),)), *(b.alternatives or ((b, 1.0),)))
    return replace(
        a,
        alternatives=pairs,
        during=(0.0, 1.0),
        hires=_join_later(a, b, combine),
        networks=a.networks + b.networks,
    )


def concat(a: Conditioning, b: Conditioning) -> Conditioning:
    """The tokens of `a`, then those of `b`: (B, T1 + T2, D). All else is that of `a`.

    The ledger has the readings of both; notes say which chunks follow which.

    Args:
        a: gives the pooled vector, the negative and all other tensors.
        b: of the same family and as many prompts; only its tokens and its mask are read.

    Raises:
        ConfigError: another family, no tokens, more than one set of tensors, or only one has a
            second pass.
        ShapeError: another number of prompts, or another width.

    Source: ComfyUI nodes.py `ConditioningConcat`.
    """
    _check_pair(a, b, "concatenated")
    first, second = _tokens_of(a, b, "concatenated")
    mask = None if a.mask is None or b.mask is None else torch.cat([a.mask, b.mask], dim=1)
    return replace(
        a,
        tokens=torch.cat([first, second.to(first)], dim=1),
        mask=mask,
        hires=_join_later(a, b, concat),
        networks=a.networks + b.networks,
        read_ledger=lambda: a.ledger + _after(a.ledger, b.ledger),
    )


def average(a: Conditioning, b: Conditioning, weight: float = 0.5) -> Conditioning:
    """`weight a + (1 - weight) b`, of the tokens and of the pooled vectors.

    `b` is cut to the tokens of `a`, or padded with zeros up to them. Without a pooled vector on one
    side, that of the other is taken. All other tensors, and the negative, are those of `a`. The
    ledger has the rows of both.

    Args:
        a: ComfyUI's `conditioning_to`.
        b: ComfyUI's `conditioning_from`, of the same family and as many prompts.
        weight: of `a`, ComfyUI's `conditioning_to_strength`; 1 is `a`, 0 is `b`.

    Raises:
        ConfigError: another family, no tokens, more than one set of tensors, only one has a
            second pass, or a weight that is no finite number.
        ShapeError: another number of prompts, or another width.

    Source: ComfyUI nodes.py `ConditioningAverage`.
    """
    weight = check_number("weight", weight, "pass 0 to 1.")
    _check_pair(a, b, "averaged")
    first, second = _tokens_of(a, b, "averaged")
    cut = second[:, : first.shape[1]]
    padded = torch.nn.functional.pad(cut, (0, 0, 0, first.shape[1] - cut.shape[1]))
    pooled = a.pooled if b.pooled is None else b.pooled
    if a.pooled is not None and b.pooled is not None:
        pooled = _mix(a.pooled, b.pooled, weight)
    return replace(
        a,
        tokens=_mix(first, padded, weight),
        pooled=pooled,
        hires=_join_later(a, b, partial(average, weight=weight)),
        networks=a.networks + b.networks,
        read_ledger=lambda: a.ledger + b.ledger,
    )


def _join_later(
    a: Conditioning, b: Conditioning, join: Callable[[Conditioning, Conditioning], Conditioning]
) -> Conditioning | None:
    """The second pass of the result; None if neither has one."""
    if a.hires is None and b.hires is None:
        return None
    if a.hires is None or b.hires is None:
        raise ConfigError(
            "only one of the two conditionings has a second pass; encode both with hires=, or "
            "both without it."
        )
    return join(a.hires, b.hires)


def _after(first: Ledger, second: Ledger) -> Ledger:
    """`second` with notes that its chunks follow those of `first`."""
    count = {reading.encoder: len(reading.chunks) for reading in first.readings}
    readings = []
    for one in second.readings:
        chunks = count.get(one.encoder, 0)
        note = f"after the {chunks} chunk{'s' * (chunks != 1)} of the first conditioning"
        readings.append(replace(one, notes=(*one.notes, note)) if chunks else one)
    return Ledger(tuple(readings))


def _mix(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Mix in at least float32; the result has the dtype of `a`."""
    wide = torch.promote_types(a.dtype, torch.float32)
    return (a.to(wide) * weight + b.to(a.device, wide) * (1 - weight)).to(a.dtype)


def _check_pair(a: Conditioning, b: Conditioning, verb: str) -> None:
    for one in (a, b):
        if not isinstance(one, Conditioning):
            raise ConfigError(
                f"only conditionings can be {verb}, got {type(one).__name__}; pass what a call of "
                "a conditioner returns."
            )
    if a.family.name != b.family.name:
        raise ConfigError(
            f"a conditioning of {a.family.title} and one of {b.family.title} cannot be {verb}; "
            "encode both for one family."
        )
    if a.rows != b.rows:
        raise ShapeError(
            f"conditionings of {a.rows} and {b.rows} prompts cannot be {verb}; encode as many "
            "prompts in both."
        )


def _tokens_of(a: Conditioning, b: Conditioning, verb: str) -> tuple[Tensor, Tensor]:
    """The tokens of both, each of one set of tensors and of one width."""
    if any(one.alternatives or one.schedule for one in (a, b)):
        raise ConfigError(
            f"a conditioning with more than one set of tensors cannot be {verb}; take each part of "
            "c.alternatives, or c.at(step)."
        )
    if a.tokens is None or b.tokens is None:
        raise ConfigError(
            f"only conditionings with tokens can be {verb}, but this one of {a.family.title} has "
            "none; pass a prompt (and t5=, where the family reads T5)."
        )
    if a.tokens.shape[-1] != b.tokens.shape[-1]:
        raise ShapeError(
            f"tokens {tuple(a.tokens.shape)} and {tuple(b.tokens.shape)} differ in width and "
            f"cannot be {verb}; use the encoders of one model for both."
        )
    return a.tokens, b.tokens
