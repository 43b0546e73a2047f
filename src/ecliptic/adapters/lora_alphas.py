"""Finds the alpha of each module if settings have it instead of a tensor.

The configs of PEFT (`adapter_config.json`), and the same with a component's prefix in diffusers'
`lora_adapter_metadata`. `use_rslora` divides by the root of the rank (Kalajdzievski 2023,
arXiv:2312.03732), which equals an alpha that is sqrt(rank) times as large.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecliptic.adapters.lora_keys import hugging_face_name
from ecliptic.checks import is_finite
from ecliptic.errors import CorruptFileError, UnsupportedLayoutError

_COMPONENTS = {"": "text_encoder", "clip_l": "text_encoder", "clip_g": "text_encoder_2"}
METHODS = ("LORA", "LOHA", "LOKR", "IA3")  # PEFT's names of what can be merged
_NAME = re.compile(r"\^?[\w.]+")  # PEFT writes names, with "^" before a complete one


@dataclass(frozen=True)
class Settings:
    """The settings of one of PEFT's configs that change the scale."""

    alpha: float | None = None
    alphas: Mapping[str, float] | None = None  # end of a module's name -> its own alpha
    rank: float | None = None
    ranks: Mapping[str, float] | None = None  # end of a module's name -> its own rank
    by_root: bool = False  # divide by the root of the rank

    def scaling_of(self, name: str) -> "Scaling":
        """The settings for the module with transformers' name `name`."""
        alpha, rank = _own(self.alphas, name, self.alpha), _own(self.ranks, name, self.rank)
        return Scaling(alpha, rank, self.by_root)


@dataclass(frozen=True)
class Scaling:
    """What settings say about the scale of one module."""

    given_alpha: float | None = None
    given_rank: float | None = None
    by_root: bool = False

    def alpha(self, rank: int) -> float:
        """The alpha that divided by the rank is the scale; the rank if the settings have none."""
        alpha = rank if self.given_alpha is None else self.given_alpha
        return alpha * math.sqrt(rank) if self.by_root else float(alpha)

    def factor(self, rank: int | None) -> float:
        """The scale; `rank` is None if no tensor has it, which the settings then have."""
        divisor = self.given_rank if rank is None else rank
        return 1.0 if self.given_alpha is None or not divisor else self.given_alpha / divisor


def _own(pattern: Mapping[str, float] | None, name: str, default: float | None) -> float | None:
    for key, own in (pattern or {}).items():
        plain = key.removeprefix("^")
        if name == plain or name.endswith(f".{plain}"):
            return own
    return default


Alphas = Mapping[str, Settings]  # by component; "" is for all that have none of their own


def scaling_of(alphas: Alphas, part: str, module: str) -> Scaling:
    """The scaling of one of our modules."""
    settings = alphas.get(_COMPONENTS.get(part, ""), alphas.get("", Settings()))
    return settings.scaling_of(hugging_face_name(module))


def read_alphas(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> Alphas:
    """Read the alphas in PEFT's config of a folder and in diffusers' metadata of a file.

    Raises:
        UnsupportedLayoutError: the config is for a method that cannot be merged.
        CorruptFileError: an alpha that is not a finite number.
    """
    if (kind := config.get("peft_type", "LORA")) not in METHODS:
        raise UnsupportedLayoutError(
            f"the adapter is {str(kind)[:40]!r}, not {', '.join(METHODS)}; merge it where it was "
            "trained, and load the merged encoder."
        )
    settings = {"": _parse_settings(config)} if config else {}
    for component in sorted(set(_COMPONENTS.values())):
        prefix = f"{component}."
        own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
        if own:
            settings[component] = _parse_settings(own)
    return settings


def _parse_settings(config: Mapping[str, Any]) -> Settings:
    alpha, rank = config.get("lora_alpha", config.get("alpha")), config.get("r")
    return Settings(
        None if alpha is None else _parse_number(alpha),
        _parse_pattern(config, "alpha_pattern"),
        None if rank is None else _parse_number(rank),
        _parse_pattern(config, "rank_pattern"),
        config.get("use_rslora") is True,
    )


def _parse_pattern(config: Mapping[str, Any], key: str) -> dict[str, float]:
    pattern = config.get(key) or {}
    if not isinstance(pattern, dict):
        raise CorruptFileError(f"the LoRA's {key} is not an object of names and numbers.")
    for name in pattern:
        if not _NAME.fullmatch(name):
            raise UnsupportedLayoutError(
                f"the LoRA's {key} has {name[:80]!r}, a regular expression; write out the names of "
                "the modules."
            )
    return {name: _parse_number(own) for name, own in pattern.items()}


def _parse_number(value: object) -> float:
    if not isinstance(value, int | float) or not is_finite(value):
        raise CorruptFileError(f"the LoRA's alpha must be finite, got {str(value)[:40]!r}.")
    return float(value)
