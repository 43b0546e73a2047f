"""`Conditioning`, the result of a conditioner: tensors for a diffusion model, and their ledger.

In a file the tensors have the argument names of a diffusers pipeline. The metadata hold, as JSON
under `ecliptic`, the arguments that are not tensors and facts about the tensors.
B prompts, T tokens, D width, E vector size.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.tokens.ledger import Ledger
from ecliptic.errors import ConfigError, InputError
from ecliptic.prompts import Network
from ecliptic.storage import replace_file, write_safetensors

_TENSORS = ("tokens", "pooled", "mask", "image", "size_ids")


# The weight of an alternative in all rows; for a batch (B,), 0 in rows that do not have it.
Weight: TypeAlias = float | Tensor


class ConditioningWarning(UserWarning):
    """An option had no effect, or zeros replaced a missing tensor; the message says which."""


@dataclass(frozen=True)
class NetworkUse:
    """A tag of a prompt, such as A1111's `<lora:name:0.8>`, and what became of it."""

    prompt: int  # its place in the batch
    network: Network
    problem: str = ""  # why it changed no text encoder

    @property
    def applied(self) -> bool:
        """Whether its LoRA was merged into the text encoders for this prompt."""
        return not self.problem

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return {**asdict(self), "applied": self.applied}


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
    alternatives: "tuple[tuple[Conditioning, Weight], ...]" = ()  # of AND, this one first
    schedule: "tuple[tuple[int, Conditioning], ...]" = ()  # (last step, ...), this one first
    hires: "Conditioning | None" = None  # of the second pass
    networks: tuple[NetworkUse, ...] = ()  # the tags of the prompts, such as `<lora:name:0.8>`
    read_ledger: Callable[[], Ledger] = Ledger

    def __repr__(self) -> str:
        parts = [f"{name} {tuple(tensor.shape)}" for name, tensor in self.tensors().items()]
        for name in ("alternatives", "schedule"):
            parts += [f"{count} {name}"] if (count := len(getattr(self, name))) else []
        return f"Conditioning({self.family.name}: {', '.join(parts)})"

    @cached_property
    def ledger(self) -> Ledger:
        """The characters, chunk, position and weight of every token."""
        return self.read_ledger()

    def at(self, step: int) -> "Conditioning":
        """The conditioning at sampling step `step`, counted from 1.

        Raises:
            ConfigError: `step` is outside the steps that the prompt was parsed for.
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
        """The keyword arguments for diffusers: for a pipeline, or the model in `family.takes`.

        Raises:
            ConfigError: there is more than one set of tensors, under AND or over the steps.
        """
        if len(self.alternatives) > 1 or self.schedule:
            several = len(self.alternatives) > 1
            parts = "each part of c.alternatives" if several else "c.at(step)"
            raise ConfigError(
                "this prompt has more than one set of tensors, but a pipeline takes one; call "
                f"to_diffusers() of {parts}."
            )
        found = self.family.arguments(self)
        return {name: value for name, value in found.items() if value is not None}

    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors by name; the names of the negative's tensors start with "negative."."""
        found = {name: getattr(self, name) for name in _TENSORS}
        if self.negative is not None:
            found |= {f"negative.{name}": x for name, x in self.negative.tensors().items()}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def repeat(self, times: int) -> "Conditioning":
        """Repeat every row `times` times: p0, p0, p1, p1."""
        if times == 1:
            return self
        own = ((name, getattr(self, name)) for name in _TENSORS)
        rows: dict[str, Any] = {n: x.repeat_interleave(times, 0) for n, x in own if x is not None}
        return replace(
            self,
            **rows,
            negative=None if self.negative is None else self.negative.repeat(times),
            alternatives=tuple(
                (c.repeat(times), w.repeat_interleave(times) if isinstance(w, Tensor) else w)
                for c, w in self.alternatives
            ),
            schedule=tuple((last, c.repeat(times)) for last, c in self.schedule),
            hires=None if self.hires is None else self.hires.repeat(times),
        )

    repeated = repeat  # its earlier name


def save_conditioning(
    conditioning: Conditioning, path: Path | str, about: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Write `conditioning.to_diffusers()` to a file, all or nothing; returns the tensor names.

    Args:
        conditioning: of one call.
        path: file to write; an existing file is replaced.
        about: more metadata, as JSON values.

    Raises:
        ConfigError: there is more than one set of tensors, under AND or over the steps.
        InputError: the family has no tensors for these inputs.
        NumericalError: a value is NaN or infinite.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    given = conditioning.to_diffusers()
    tensors = dict(_find_tensors(given))
    if not tensors:
        raise InputError(
            f"{conditioning.family.title} has no tensors for these inputs; pass a prompt or images."
        )
    for name, tensor in tensors.items():
        check_finite(tensor, name, "nothing is written.")
    others = {
        name: value for name, value in given.items() if not list(_find_tensors({name: value}))
    }
    facts = {"family": conditioning.family.name, "other": others, **(about or {})}
    metadata = {"format": "pt", "ecliptic": json.dumps(facts, sort_keys=True, allow_nan=False)}
    replace_file(path, lambda draft: write_safetensors(draft, tensors, metadata))
    return tuple(tensors)


def _find_tensors(given: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among a pipeline's arguments; those of a list are numbered: `name.0`."""
    found: list[tuple[str, Tensor]] = []
    for name, value in given.items():
        if isinstance(value, Tensor):
            found.append((name, value.detach().cpu().clone().contiguous()))
        elif isinstance(value, list | tuple):
            found += _find_tensors({f"{name}.{place}": item for place, item in enumerate(value)})
    return found
