"""The LoRAs and textual inversions that were added to the encoders of a conditioner.

`ecliptic.adapters` reads and merges them; this module decides which encoder gets what, keeps all
encoders in step, and names everything in a file that has no effect.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ecliptic.adapters import (
    Inversion,
    Lora,
    LoraReport,
    LoraStack,
    Strength,
    read_inversion,
    read_lora,
)
from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.families import Family
from ecliptic.errors import ConfigError, ShapeError, warn

SHOWN, REASONS = 3, 5  # names in a message, and reasons
Changed = TypeVar("Changed")


class Adapters:
    """What was added to the encoders of one family."""

    def __init__(self, family: Family, encoders: Sequence[TextEncoder]) -> None:
        self.family = family
        self.encoders = tuple(encoders)
        self.files: dict[str, str] = {}  # token of an inversion -> SHA-256 of its file
        self.stacks = tuple(
            LoraStack(one.tower, one.rule.part, first=one.rule.folder == "text_encoder")
            for one in self.encoders
        )

    def add_inversion(self, path: str | Path, token: str | None) -> tuple[Inversion, ...]:
        """Add those inversions of a file that fit, and warn of the others of a bundle."""
        found = read_inversion(path, token)
        if used := next((one.token for one in found if one.token in self.files), None):
            raise ConfigError(f"an inversion is already called {used!r}; pass another token=.")
        fitting: list[tuple[Inversion, list[Tensor | None]]] = []
        problems: list[ConfigError | ShapeError] = []
        for one in found:
            try:
                fitting.append((one, self._vectors_of(one, path)))
            except (ConfigError, ShapeError) as problem:
                problems.append(problem)
        if not fitting:
            raise problems[0]
        if problems:
            first = ", ".join(map(str, problems[:SHOWN]))
            warn(
                f"{len(problems)} of the {len(found)} inversions in {path} fit no encoder here and "
                f"are left out: {first}",
                ConditioningWarning,
                stacklevel=None,
            )
        for one, vectors in fitting:
            self.files[one.token] = one.sha256
            for encoder, own in zip(self.encoders, vectors, strict=True):
                if own is not None:
                    encoder.inversions = {**encoder.inversions, one.token: own}
        return tuple(one for one, _ in fitting)

    def _vectors_of(self, one: Inversion, path: str | Path) -> list[Tensor | None]:
        """The vectors for each encoder; ConfigError if there are none."""
        vectors = [one.for_encoder(e.rule.part, e.width) for e in self.encoders]
        if all(own is None for own in vectors):
            raise ConfigError(
                f"{one.token!r} of {path} has vectors for {', '.join(one.vectors)}, but "
                f"{self.family.title} has no such encoder; use an inversion trained for it."
            )
        return vectors

    def remove_inversion(self, token: str) -> None:
        """Remove an inversion; its name is then read as words again."""
        if token not in self.files:
            names = ", ".join(map(repr, self.files)) or "none"
            raise ConfigError(f"no inversion {token!r} is added; the added ones are: {names}.")
        del self.files[token]
        for encoder in self.encoders:
            encoder.inversions = {t: v for t, v in encoder.inversions.items() if t != token}

    def add_lora(
        self, path: str | Path, scale: Strength, name: str | None
    ) -> tuple[LoraReport, ...]:
        """Merge a LoRA file into all encoders or none, and warn of its keys without effect."""
        lora = read_lora(path)
        name = Path(path).stem if name is None else name
        reports = self._change_all(
            lambda stack: stack.add(name, lora, scale), lambda stack: stack.remove(name)
        )
        idle = self.find_idle(lora, reports)
        if not any(report.applied for report in reports):
            self.remove_lora(name)
            reasons = f": {_describe_idle(idle)}" if idle else "; it is for the denoiser alone"
            raise ConfigError(
                f"{path} changes no layer of the text encoders of {self.family.title}{reasons}; "
                "use another LoRA."
            )
        self.warn_of_idle(idle, path)
        return reports

    def preview(self, name: str, lora: Lora) -> tuple[LoraReport, ...]:
        """What each encoder would report of `lora`; it changes nothing."""
        return tuple(stack.preview(name, lora) for stack in self.stacks)

    def warn_of_idle(self, idle: Mapping[str, str], path: str | Path) -> None:
        """Warn of the keys that `find_idle` found in the file `path`, if there are any."""
        if idle:
            keys = "1 key" if len(idle) == 1 else f"{len(idle)} keys"
            warn(
                f"{keys} of {path} {'has' if len(idle) == 1 else 'have'} no effect on "
                f"{self.family.title}: {_describe_idle(idle)}",
                ConditioningWarning,
                stacklevel=None,
            )

    def find_idle(self, lora: Lora, reports: Sequence[LoraReport]) -> dict[str, str]:
        """Find keys for text encoders that change none, with the reason."""
        idle = dict(lora.unused)
        for report in reports:
            idle |= report.unused
        taken = frozenset[str]().union(*(stack.parts for stack in self.stacks))
        for (part, _), layer in lora.layers.items():
            if part not in taken:
                where = part or "the first text encoder"
                idle[layer.key] = f"for {where}, which {self.family.title} does not have"
        return idle | dict.fromkeys(lora.t5, "for a T5, into which no LoRA is merged")

    def rescale_lora(self, name: str, scale: Strength) -> None:
        """Change the scale of a merged LoRA in all encoders or none."""
        before = [stack.scales.get(name, 1.0) for stack in self.stacks]
        undo = dict(zip(map(id, self.stacks), before, strict=True))
        self._change_all(
            lambda stack: stack.rescale(name, scale),
            lambda stack: stack.rescale(name, undo[id(stack)]),
        )

    def remove_lora(self, name: str) -> None:
        """Remove a LoRA from all encoders."""
        for stack in self.stacks:
            stack.remove(name)

    def _change_all(
        self, change: Callable[[LoraStack], Changed], undo: Callable[[LoraStack], None]
    ) -> tuple[Changed, ...]:
        """Change every stack; if one fails, undo those that were changed."""
        done: list[Changed] = []
        try:
            for stack in self.stacks:
                done.append(change(stack))
        except Exception:
            for stack in self.stacks[: len(done)]:
                undo(stack)
            raise
        return tuple(done)


def _describe_idle(idle: Mapping[str, str]) -> str:
    """Describe each reason with its first keys."""
    reasons: dict[str, list[str]] = {}
    for key, reason in idle.items():
        reasons.setdefault(reason, []).append(key)
    shown = list(reasons.items())[:REASONS]
    more = sum(map(len, reasons.values())) - sum(len(keys) for _, keys in shown)
    listed = "; ".join(f"{_list_keys(keys)} ({reason})" for reason, keys in shown)
    return f"{listed}; and {more} more for other reasons" if more else listed


def _list_keys(keys: Iterable[str]) -> str:
    names = list(keys)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
