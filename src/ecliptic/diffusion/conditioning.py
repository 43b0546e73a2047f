"""`Conditioning`, the result of a conditioner: tensors for a diffusion model, and their ledger.

In a file the tensors have the argument names of a diffusers pipeline. The metadata hold, as JSON
under `ecliptic`, the arguments that are not tensors and facts about the tensors.
B prompts, T tokens, D width, E vector size.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ecliptic.checks import check_count, check_finite, check_number
from ecliptic.diffusion.account.report import (
    CallFacts,
    ConditioningReport,
    Holding,
    Note,
    Origin,
    PromptSide,
    TensorFacts,
    list_prompts,
)
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.micro_conditioning import Sizes
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
    idle: int = 0  # keys for text encoders in its file that had no effect

    @property
    def applied(self) -> bool:
        """Whether its LoRA was merged into the text encoders for this prompt."""
        return not self.problem

    @property
    def text(self) -> str:
        """The tag and what became of it, in words."""
        what = self.problem or "was merged for this call"
        if self.idle and self.applied:
            keys = "1 key" if self.idle == 1 else f"{self.idle} keys"
            what += f", but {keys} of its file had no effect"
        return f"<{self.network.kind}:{':'.join(self.network.items)}> {what}"

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
    sizes: Sizes | None = None  # of `size_ids`, if the call stated any
    negative: "Conditioning | None" = None
    alternatives: "tuple[tuple[Conditioning, Weight], ...]" = ()  # of AND, this one first
    schedule: "tuple[tuple[int, Conditioning], ...]" = ()  # (last step, ...), this one first
    hires: "Conditioning | None" = None  # of the second pass
    networks: tuple[NetworkUse, ...] = ()  # the tags of the prompts, such as `<lora:name:0.8>`
    read_ledger: Callable[[], Ledger] = Ledger
    facts: CallFacts = field(default_factory=CallFacts)  # of the call
    during: tuple[float, float] = (0.0, 1.0)  # fractions of the noise schedule

    def __repr__(self) -> str:
        parts = [f"{name} {tuple(tensor.shape)}" for name, tensor in self.tensors().items()]
        for name in ("alternatives", "schedule"):
            parts += [f"{count} {name}"] if (count := len(getattr(self, name))) else []
        parts += [f"from {self.during[0]:g} to {self.during[1]:g}"] if self.ranged else []
        return f"Conditioning({self.family.name}: {', '.join(parts)})"

    @property
    def rows(self) -> int:
        """The number of prompts, or of images where there is no prompt."""
        return next((len(tensor) for tensor in self.tensors().values()), 0)

    @property
    def ranged(self) -> bool:
        """Whether it counts only during a part of the sampling."""
        return self.during != (0.0, 1.0)

    def between(self, start: float, end: float) -> "Conditioning":
        """The same conditioning, for a part of the sampling only.

        A sampler reads `during` and uses the conditioning only there; with `combine`, one prompt
        can follow another. As in ComfyUI, the fractions are of the noise schedule and not of the
        steps: at fraction f, the training timestep is `(1 - f) 999`. `hires` gets the same ones, of
        its own sampling.

        Args:
            start: fraction of the sampling at which it begins, 0 to 1.
            end: fraction at which it ends, above `start`, up to 1.

        Raises:
            ConfigError: not two fractions in this order.

        Source: ComfyUI nodes.py `ConditioningSetTimestepRange` (start_percent, end_percent);
        comfy/samplers.py `calculate_start_end_timesteps`.
        """
        start, end = (
            check_number(name, value, "pass fractions from 0 to 1.")
            for name, value in (("start", start), ("end", end))
        )
        if not 0 <= start < end <= 1:
            raise ConfigError(
                f"a part of the sampling from {start:g} to {end:g} is empty or outside it; pass "
                "two fractions from 0 to 1, the smaller first."
            )
        parts = tuple((one.between(start, end), weight) for one, weight in self.alternatives)
        hires = None if self.hires is None else self.hires.between(start, end)
        return replace(self, alternatives=parts, hires=hires, during=(start, end))

    def zeroed(self) -> "Conditioning":
        """The same shapes with zeros for the tokens and the pooled vector, without words.

        Masks, sizes, images and the negative stay. A second pass is zeroed likewise.

        Source: ComfyUI nodes.py `ConditioningZeroOut`.
        """
        tokens, pooled = (
            None if x is None else torch.zeros_like(x) for x in (self.tokens, self.pooled)
        )
        return replace(
            self,
            tokens=tokens,
            pooled=pooled,
            alternatives=tuple((one.zeroed(), weight) for one, weight in self.alternatives),
            schedule=tuple((last, one.zeroed()) for last, one in self.schedule),
            hires=None if self.hires is None else self.hires.zeroed(),
            read_ledger=Ledger,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """The characters, chunk, position and weight of every token."""
        return self.read_ledger()

    @property
    def wordless(self) -> bool:
        """Whether its prompts have no tokens of their own."""
        return not self.ledger.rows

    def at(self, step: int) -> "Conditioning":
        """The conditioning at sampling step `step`, counted from 1.

        What holds for the whole call stays: the range, the second pass, networks and images.

        Raises:
            ConfigError: `step` is outside the steps that the prompt was parsed for.
        """
        if self.alternatives:
            parts = tuple((one.at(step), weight) for one, weight in self.alternatives)
            return self._share(replace(parts[0][0], alternatives=parts))
        if not self.schedule:
            check_count("step", step)
            return self
        if isinstance(step, Integral) and step >= 1:
            for last, conditioning in self.schedule:
                if step <= last:
                    return self._share(conditioning)
        raise ConfigError(f"step must be 1 to {self.schedule[-1][0]}, got {step!r}.")

    def _share(self, part: "Conditioning") -> "Conditioning":
        """`part` with what only the whole conditioning of the call knows."""
        negative = self.negative
        if part.negative is not None and negative is not None:
            negative = replace(part.negative, image=negative.image)
        return replace(
            part,
            image=self.image,
            negative=negative,
            during=self.during,
            hires=self.hires,
            networks=self.networks,
        )

    def report(self) -> ConditioningReport:
        """What became of the prompts: both sides, every alternative and step, shapes, warnings."""
        tensors = tuple(
            TensorFacts(name, tuple(x.shape), str(x.dtype).removeprefix("torch."))
            for name, x in self.tensors().items()
        )
        family, facts = self.family, self.facts
        origins: dict[PromptSide, Origin] = {"prompt": facts.positive, "negative": facts.negative}
        later = () if self.hires is None else self.hires._holdings(second=True)
        prompts = list_prompts((*self._holdings(), *later), origins)
        passes = (self,) if self.hires is None else (self, self.hires)
        uses = (use for one in passes for use in one.networks if use.applied)
        notes = (*facts.notes, *dict.fromkeys(Note("network", use.text) for use in uses))
        return ConditioningReport(family.name, family.title, facts.options, tensors, prompts, notes)

    def _holdings(self, *, second: bool = False) -> Iterator[Holding]:
        """Yield the ledgers of both sides, by alternative and step."""
        for number, (one, given) in enumerate(self.alternatives or ((self, 1.0),)):
            weight = tuple(given.tolist()) if isinstance(given, Tensor) else given
            before = 0
            for last, made in one.schedule or ((0, one),):
                steps = (before + 1, last) if one.schedule else None
                there = None if made.negative is None else made.negative.ledger
                yield Holding("prompt", made.ledger, number, weight, steps, second)
                yield Holding("negative", there, number, weight, steps, second)
                before = last

    def note(self, warnings: Iterable[tuple[str, str]]) -> "Conditioning":
        """Make warnings, (name of the class, message), notes of this conditioning and its parts."""
        return self.add_notes(Note(*one) for one in dict.fromkeys(warnings))

    def add_notes(self, notes: Iterable[Note]) -> "Conditioning":
        """Add notes to this conditioning and its parts, for their reports."""
        if not (notes := tuple(notes)):
            return self
        return replace(
            self,
            facts=replace(self.facts, notes=(*self.facts.notes, *notes)),
            negative=None if self.negative is None else self.negative.add_notes(notes),
            alternatives=tuple((c.add_notes(notes), weight) for c, weight in self.alternatives),
            schedule=tuple((last, c.add_notes(notes)) for last, c in self.schedule),
            hires=None if self.hires is None else self.hires.add_notes(notes),
        )

    def to_diffusers(self) -> dict[str, Any]:
        """The keyword arguments for diffusers: for a pipeline, or the model in `family.takes`.

        Sizes of SDXL are among them if the call stated `sizes=`; otherwise a pipeline takes them
        from the image that it paints. The second pass is not: call `c.hires.to_diffusers()`.

        Raises:
            ConfigError: there is more than one set of tensors, under AND, of `combine` or over the
                steps; or it is for a part of the sampling; or no argument of diffusers takes what
                there is, such as a negative of unCLIP.
        """
        if self.ranged:
            raise ConfigError(
                f"this conditioning counts from {self.during[0]:g} to {self.during[1]:g} of the "
                "sampling, but a pipeline uses one for all of it; read c.during in your own "
                "sampler, or call c.between(0, 1) to use it from start to end."
            )
        if len(self.alternatives) > 1 or self.schedule:
            several = len(self.alternatives) > 1
            raise ConfigError(
                "this prompt has more than one set of tensors, but a pipeline takes one"
                + (
                    "; call to_diffusers() of each part of c.alternatives."
                    if several
                    else "; call to_diffusers() of c.at(step)."
                )
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
        if check_count("times", times) == 1:
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

    The names of the tensors of a second pass start with "hires.".

    Args:
        conditioning: of one call.
        path: file to write; an existing file is replaced.
        about: more metadata, as JSON values.

    Raises:
        ConfigError: a pass has more than one set of tensors, under AND or over the steps.
        InputError: the family has no tensors for these inputs.
        NumericalError: a value is NaN or infinite.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    tensors, others = _sort_arguments(conditioning)
    facts = {"family": conditioning.family.name, "other": others, **(about or {})}
    if conditioning.hires is not None:
        try:
            later, others = _sort_arguments(conditioning.hires)
        except ConfigError as error:
            raise ConfigError(f"the second pass cannot be written: {error}") from error
        tensors |= {f"hires.{name}": tensor for name, tensor in later.items()}
        facts["hires"] = {"other": others}
    if not tensors:
        raise InputError(
            f"{conditioning.family.title} has no tensors for these inputs; pass a prompt or images."
        )
    for name, tensor in tensors.items():
        check_finite(tensor, name, "nothing is written.")
    metadata = {"format": "pt", "ecliptic": json.dumps(facts, sort_keys=True, allow_nan=False)}
    replace_file(path, lambda draft: write_safetensors(draft, tensors, metadata))
    return tuple(tensors)


def _sort_arguments(conditioning: Conditioning) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors among the arguments of a pipeline, and all others."""
    given = conditioning.to_diffusers()
    others = {
        name: value for name, value in given.items() if not list(_find_tensors({name: value}))
    }
    return dict(_find_tensors(given)), others


def _find_tensors(given: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among a pipeline's arguments; those of a list are numbered: `name.0`."""
    found: list[tuple[str, Tensor]] = []
    for name, value in given.items():
        if isinstance(value, Tensor):
            found.append((name, value.detach().cpu().clone().contiguous()))
        elif isinstance(value, list | tuple):
            found += _find_tensors({f"{name}.{place}": item for place, item in enumerate(value)})
    return found
