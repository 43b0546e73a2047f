"""The strength of a LoRA: one number, or one for each block of an encoder.

As the block weights of A1111's sd-webui-lora-block-weight and diffusers' `set_adapters`, which are
for denoisers there; a text encoder has one row of blocks.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TypeAlias

from ecliptic.adapters.parts import PARTS
from ecliptic.checks import check_choice, check_finite
from ecliptic.errors import ConfigError

Strength: TypeAlias = float | Sequence[float] | Mapping[str, float | Sequence[float]]


def resolve_strength(strength: Strength, part: str, depth: int) -> float | tuple[float, ...]:
    """The strength for one encoder: a number, or `depth` numbers.

    Args:
        strength: of all layers; or one number for each block; or either by encoder ("clip_l",
            "clip_g"), where 1.0 is for those that are not named.
        part: name of the encoder.
        depth: number of its blocks.

    Raises:
        ConfigError: a number that is not finite, an unknown encoder, or a list of other length.
    """
    if isinstance(strength, Mapping):
        for name in strength:
            check_choice("the encoder in the scale of a LoRA", name, PARTS)
        strength = strength.get(part, 1.0)
    if isinstance(strength, str) or not isinstance(strength, Sequence):
        return _check(strength)
    if len(strength) != depth:
        raise ConfigError(
            f"the scale of a LoRA has {len(strength)} numbers, but {part} has {depth} blocks; pass "
            'one number for each block, or different lists by encoder, {"clip_l": [...]}.'
        )
    return tuple(_check(one) for one in strength)


def strength_at(strength: float | tuple[float, ...], module: str) -> float:
    """The strength for a module; what follows the blocks has that of the last one."""
    if isinstance(strength, tuple):
        _, block, *_ = module.split(".") if module.startswith("blocks.") else ("", "-1")
        return strength[int(block)]
    return strength


def _check(strength: object) -> float:
    if not isinstance(strength, Real):
        raise ConfigError(
            f"the scale of a LoRA must be a number, or one for each block, got {strength!r}; 1.0 "
            "is its full strength."
        )
    check_finite(strength, "the scale of a LoRA", "1.0 is its full strength.", ConfigError)
    return strength if isinstance(strength, int | float) else float(strength)
