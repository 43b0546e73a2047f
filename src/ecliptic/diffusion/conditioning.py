"""What a conditioner returns: the tensors of a diffusion model, and how they came about.

In a file they have the names that a diffusers pipeline uses; what a pipeline takes and is no
tensor, and what the tensors are of, stand as JSON in the metadata under `ecliptic`.
B prompts, T tokens, D width, E vector size.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.tokens.ledger import Ledger
from ecliptic.errors import ConfigError, InputError
from ecliptic.storage import replace_file, write_safetensors


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
        found = self.family.arguments(self)
        return {name: value for name, value in found.items() if value is not None}

    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor by name, those of the negative with "negative." before it."""
        names = ("tokens", "pooled", "mask", "image", "size_ids")
        found = {name: getattr(self, name) for name in names}
        if self.negative is not None:
            found |= {f"negative.{name}": x for name, x in self.negative.tensors().items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def repeat(self, times: int) -> "Conditioning":
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
            negative=None if self.negative is None else self.negative.repeat(times),
            alternatives=tuple((c.repeat(times), weight) for c, weight in self.alternatives),
            schedule=tuple((last, c.repeat(times)) for last, c in self.schedule),
        )


def save_conditioning(
    conditioning: Conditioning, path: Path | str, about: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Write `conditioning.to_diffusers()`, whole or not at all; the names of its tensors.

    Args:
        conditioning: of one call.
        path: file to write; what is there is replaced.
        about: more for the metadata, as JSON values.

    Raises:
        ConfigError: there is more than one set of tensors, under AND or over the steps.
        InputError: the family has no tensors for these inputs.
        NumericalError: a value is NaN or infinite.
        StorageError: nothing can be written there.
    """
    path = Path(path)
    given = conditioning.to_diffusers()
    tensors = dict(_tensors(given))
    if not tensors:
        raise InputError(
            f"{conditioning.family.title} has no tensors for these inputs; pass what it reads."
        )
    for name, tensor in tensors.items():
        check_finite(tensor, name, "nothing is written.")
    others = {name: value for name, value in given.items() if not list(_tensors({name: value}))}
    facts = {"family": conditioning.family.name, "other": others, **(about or {})}
    metadata = {"format": "pt", "ecliptic": json.dumps(facts, sort_keys=True, allow_nan=False)}
    replace_file(path, lambda draft: write_safetensors(draft, tensors, metadata))
    return tuple(tensors)


def _tensors(given: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among a pipeline's arguments; those of a list are numbered: `name.0`."""
    found: list[tuple[str, Tensor]] = []
    for name, value in given.items():
        if isinstance(value, Tensor):
            found.append((name, value.detach().cpu().clone().contiguous()))
        elif isinstance(value, list | tuple):
            found += _tensors({f"{name}.{place}": item for place, item in enumerate(value)})
    return found
