"""Finds the alpha of each module if settings have it instead of a tensor.

PEFT's `LoraConfig` (`adapter_config.json`), and the same with a component's prefix in diffusers'
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
_NAME = re.compile(r"\^?[\w.]+")  # PEFT writes names, with "^" before a complete one


@dataclass(frozen=True)
class Settings:
    """The settings of a `LoraConfig` that change the scale."""

    alpha: float | None = None
    pattern: Mapping[str, float] | None = None  # end of a module's name -> its own alpha
    by_root: bool = False  # divide by the root of the rank

    def alpha_of(self, name: str, rank: int) -> float | None:
        """Alpha of the module with transformers' name `name`; None if the settings have none."""
        alpha = self.alpha
        for pattern, own in (self.pattern or {}).items():
            plain = pattern.removeprefix("^")
            if name == plain or name.endswith(f".{plain}"):
                alpha = own
                break
        if not self.by_root:
            return alpha
        return (rank if alpha is None else alpha) * math.sqrt(rank)


Alphas = Mapping[str, Settings]  # by component; "" is for all that have none of their own


def alpha_of(alphas: Alphas, part: str, module: str, rank: int) -> float | None:
    """Alpha of one of our modules; None if the settings have none."""
    settings = alphas.get(_COMPONENTS[part], alphas.get("", Settings()))
    return settings.alpha_of(hugging_face_name(module), rank)


def read_alphas(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> Alphas:
    """Read the alphas in PEFT's config of a folder and in diffusers' metadata of a file.

    Raises:
        UnsupportedLayoutError: the config is for another method than LoRA.
        CorruptFileError: an alpha that is not a finite number.
    """
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        raise UnsupportedLayoutError(
            f"the adapter is {str(kind)[:40]!r}, not LoRA; merge it where it was trained, and load "
            "the merged encoder."
        )
    settings = {"": _parse_settings(config)} if config else {}
    for component in sorted(set(_COMPONENTS.values())):
        prefix = f"{component}."
        own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
        if own:
            settings[component] = _parse_settings(own)
    return settings


def _parse_settings(config: Mapping[str, Any]) -> Settings:
    pattern = config.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise CorruptFileError("the LoRA's alpha_pattern is not an object of names and numbers.")
    for name in pattern:
        if not _NAME.fullmatch(name):
            raise UnsupportedLayoutError(
                f"the LoRA's alpha_pattern has {name[:80]!r}, a regular expression; write out the "
                "names of the modules."
            )
    alpha = config.get("lora_alpha")
    return Settings(
        None if alpha is None else _parse_number(alpha),
        {name: _parse_number(own) for name, own in pattern.items()},
        config.get("use_rslora") is True,
    )


def _parse_number(value: object) -> float:
    if not isinstance(value, int | float) or not is_finite(value):
        raise CorruptFileError(f"the LoRA's alpha must be finite, got {str(value)[:40]!r}.")
    return float(value)
