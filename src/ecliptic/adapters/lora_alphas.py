"""The alpha of each module where settings state it instead of a tensor.

PEFT's `LoraConfig` (`adapter_config.json`), and the same with a component's prefix in diffusers'
`lora_adapter_metadata`. `use_rslora` divides by the root of the rank (Kalajdzievski 2023,
arXiv:2312.03732), which is an alpha that is sqrt(rank) times as large.
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
_NAME = re.compile(r"\^?[\w.]+")  # what PEFT writes: names, "^" where one must be whole


@dataclass(frozen=True)
class Settings:
    """What a `LoraConfig` says about scale."""

    alpha: float | None = None
    pattern: Mapping[str, float] | None = None  # end of a module's name -> its own alpha
    by_root: bool = False

    def alpha_of(self, name: str, rank: int) -> float | None:
        """Alpha of the module that transformers calls `name`, None where nothing is stated."""
        alpha = self.alpha
        for pattern, own in (self.pattern or {}).items():
            plain = pattern.removeprefix("^")
            if name == plain or name.endswith(f".{plain}"):
                alpha = own
                break
        if alpha is None:
            return float(rank) * math.sqrt(rank) if self.by_root else None
        return alpha * math.sqrt(rank) if self.by_root else alpha


@dataclass(frozen=True)
class StatedAlphas:
    """Settings by component; "" holds for all that are not named."""

    settings: Mapping[str, Settings]

    def alpha_of(self, part: str, module: str, rank: int) -> float | None:
        """Alpha of one of our modules, None where nothing is stated."""
        settings = self.settings.get(_COMPONENTS[part], self.settings.get("", Settings()))
        return settings.alpha_of(hugging_face_name(module), rank)


def stated_alphas(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> StatedAlphas:
    """What PEFT's config of a folder and diffusers' metadata of a file say.

    Raises:
        UnsupportedLayoutError: the config is of another method than LoRA.
        CorruptFileError: an alpha that is no number.
    """
    if (kind := config.get("peft_type", "LORA")) != "LORA":
        raise UnsupportedLayoutError(
            f"the adapter is {str(kind)[:40]!r}, not LoRA; merge it where it was trained, and load "
            "the merged encoder."
        )
    settings = {"": _settings(config)} if config else {}
    for component in sorted(set(_COMPONENTS.values())):
        prefix = f"{component}."
        own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
        if own:
            settings[component] = _settings(own)
    return StatedAlphas(settings)


def _settings(config: Mapping[str, Any]) -> Settings:
    pattern = config.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise CorruptFileError("the LoRA's alpha_pattern is no object of names and numbers.")
    for name in pattern:
        if not _NAME.fullmatch(name):
            raise UnsupportedLayoutError(
                f"the LoRA's alpha_pattern has {name[:80]!r}, a regular expression; write out the "
                "modules' names."
            )
    alpha = config.get("lora_alpha")
    return Settings(
        None if alpha is None else _number(alpha),
        {name: _number(own) for name, own in pattern.items()},
        config.get("use_rslora") is True,
    )


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not is_finite(value):
        raise CorruptFileError(f"the LoRA's settings have the alpha {str(value)[:40]!r}.")
    return float(value)
