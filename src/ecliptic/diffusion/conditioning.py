"""What a conditioner returns: the tensors of a diffusion model, and how they came about.

B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ecliptic.diffusion.families import Family
from ecliptic.diffusion.ledger import Ledger
from ecliptic.errors import ConfigError


class ConditioningWarning(UserWarning):
    """Something that was asked for had no effect, or was filled in; the message says what."""


@dataclass(frozen=True, eq=False, repr=False)
class Conditioning:
    """The tensors of one call; None where the family has none."""

    family: Family
    tokens: Tensor | None = None  # (B, T, D)
    pooled: Tensor | None = None  # (B, E), or (B, 1, E)
    mask: Tensor | None = None  # (B, T) bool
    image: Tensor | None = None  # (N, E), (N, 1, E) or (N, patches, D)
    size_ids: Tensor | None = None  # (B, 6) or (B, 5)
    negative: "Conditioning | None" = None
    alternatives: "tuple[tuple[Conditioning, float], ...]" = ()  # of AND, this one first
    schedule: "tuple[tuple[int, Conditioning], ...]" = ()  # (last step, ...), this one first
    read_ledger: Callable[[], Ledger] = Ledger

    def __repr__(self) -> str:
        parts = [f"{name} {tuple(tensor.shape)}" for name, tensor in self.tensors().items()]
        for name in ("alternatives", "schedule"):
            parts += [f"{count} {name}"] if (count := len(getattr(self, name))) else []
        return f"Conditioning({self.family.name}: {', '.join(parts)})"

    @cached_property
    def ledger(self) -> Ledger:
        """Which characters became which token, where it went and under what weight."""
        return self.read_ledger()

    def at(self, step: int) -> "Conditioning":
        """What holds at sampling step `step`, counted from 1.

        Raises:
            ConfigError: `step` lies outside the steps the prompt was read for.
        """
        if self.alternatives:
            parts = tuple((one.at(step), weight) for one, weight in self.alternatives)
            return replace(parts[0][0], alternatives=parts)
        if not self.schedule:
            return self
        if step >= 1:
            for last, conditioning in self.schedule:
                if step <= last:
                    return conditioning
        raise ConfigError(f"step must be 1 to {self.schedule[-1][0]}, got {step}.")

    def to_diffusers(self) -> dict[str, Any]:
        """The keyword arguments that `family.takes` (of diffusers) wants.

        Raises:
            ConfigError: there is more than one set of tensors, under AND or over the steps.
        """
        if self.alternatives or self.schedule:
            parts = "each part of c.alternatives" if self.alternatives else "c.at(step)"
            raise ConfigError(
                "this prompt has more than one set of tensors, but a pipeline takes one; call "
                f"to_diffusers() of {parts}."
            )
        found = {name: self._field(spec) for name, spec in self.family.keywords.items()}
        return {name: value for name, value in found.items() if value is not None}

    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor by name, those of the negative with "negative." before it."""
        names = ("tokens", "pooled", "mask", "image", "size_ids")
        found = {name: getattr(self, name) for name in names}
        if self.negative is not None:
            found |= {f"negative.{name}": x for name, x in self.negative.tensors().items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def repeated(self, times: int) -> "Conditioning":
        """Every row `times` times, one behind the other: p0, p0, p1, p1."""
        if times == 1:
            return self

        def rows(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.repeat_interleave(times, 0)

        return replace(
            self,
            tokens=rows(self.tokens),
            pooled=rows(self.pooled),
            mask=rows(self.mask),
            image=rows(self.image),
            size_ids=rows(self.size_ids),
            negative=None if self.negative is None else self.negative.repeated(times),
            alternatives=tuple((c.repeated(times), weight) for c, weight in self.alternatives),
            schedule=tuple((last, c.repeated(times)) for last, c in self.schedule),
        )

    def _field(self, spec: str) -> Any:
        """The value that a row's `keywords` spell: see `families.py`."""
        if spec.startswith("["):
            here = getattr(self, spec[1:-1].removeprefix("negative+"))
            other = getattr(self.negative, spec[1:-1].removeprefix("negative+"))
            return [torch.stack([other, here])]  # one adapter: (2, N, ...), negatives first
        if "," in spec:
            return tuple(self._field(name) for name in spec.split(","))
        if spec.startswith("negative+"):
            name = spec.removeprefix("negative+")
            here = getattr(self, name)
            other = None if self.negative is None else getattr(self.negative, name)
            return here if other is None or here is None else torch.cat([other, here])
        owner = self.negative if spec.startswith("negative.") else self
        return None if owner is None else getattr(owner, spec.removeprefix("negative."))
