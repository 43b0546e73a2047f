"""Key tables: data that translates another project's tensor names to ours and back.

A table is rows of templates. `#` matches a number, `*` the last part of a name ("weight", "bias",
...). Each layout lists its own rows; `identity` finds the sizes.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

_WILDCARDS = {"#": r"([0-9]{1,6})", "*": r"(\w+)"}


@dataclass(frozen=True)
class Rule:
    """One row: our name and theirs; several of theirs are stacked along dimension 0, in order."""

    ours: str
    theirs: str | tuple[str, ...]
    transposed: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """Their templates, as a tuple even if there is one."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs


@dataclass
class Translation:
    """The tensors of a file after `to_native`; `unexpected` and `problems` are errors."""

    weights: dict[str, Tensor] = field(default_factory=dict)  # under our names
    unexpected: dict[str, Tensor] = field(default_factory=dict)  # no row matches
    dropped: list[str] = field(default_factory=list)  # known, but not needed
    partial: list[str] = field(default_factory=list)  # stacked parts, some of which are missing
    problems: list[str] = field(default_factory=list)  # parts that do not fit together
    copied: list[Tensor] = field(default_factory=list)  # parts whose values are in a stack now


class KeyTable:
    """Rows of one naming scheme. `dropped` are templates of buffers that are not weights."""

    def __init__(self, rules: Iterable[Rule], dropped: Iterable[str] = ()) -> None:
        rules = tuple(rules)
        self._inward = [
            (_compile(template), rule, place)
            for rule in rules
            for place, template in enumerate(rule.sources)
        ]
        self._outward = [(_compile(rule.ours), rule) for rule in rules]
        self._dropped = [_compile(template) for template in dropped]

    def to_native(self, tensors: Mapping[str, Tensor]) -> Translation:
        """Rename, transpose and stack; only stacked tensors are copied."""
        result = Translation()
        parts: dict[str, dict[int, Tensor]] = {}  # native name -> place -> tensor
        for name, tensor in tensors.items():
            if any(pattern.fullmatch(name) for pattern in self._dropped):
                result.dropped.append(name)
                continue
            found = self._match(name)
            if found is None:
                result.unexpected[name] = tensor
                continue
            ours, rule, place = found
            parts.setdefault(ours, {})[place] = _orient(tensor, rule)
            if len(parts[ours]) == len(rule.sources):
                _join(ours, parts[ours], result)
            else:
                result.partial.append(name)
        return result

    def from_native(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Undo `to_native`; KeyError for a name that no row matches."""
        written: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            rule, theirs = self._match_native(name)
            parts = tensor.chunk(len(theirs)) if len(theirs) > 1 else (tensor,)
            written |= {k: _orient(part, rule) for k, part in zip(theirs, parts, strict=True)}
        return written

    def foreign_names(self, name: str) -> tuple[str, ...]:
        """Their name or names for the native `name`, from the first row that matches."""
        return self._match_native(name)[1]

    def is_transposed(self, name: str) -> bool:
        """Whether their tensor is the transpose of the native `name`."""
        return self._match_native(name)[0].transposed

    def _match(self, name: str) -> tuple[str, Rule, int] | None:
        for pattern, rule, place in self._inward:
            if match := pattern.fullmatch(name):
                return _fill(rule.ours, match), rule, place
        return None

    def _match_native(self, name: str) -> tuple[Rule, tuple[str, ...]]:
        for pattern, rule in self._outward:
            if match := pattern.fullmatch(name):
                return rule, tuple(_fill(template, match) for template in rule.sources)
        raise KeyError(name)


def _compile(template: str) -> re.Pattern[str]:
    pieces = re.split(r"([#*])", template)
    return re.compile("".join(_WILDCARDS.get(piece) or re.escape(piece) for piece in pieces))


def _fill(template: str, match: re.Match[str]) -> str:
    values = iter(match.groups())
    return re.sub(r"[#*]", lambda _: next(values), template)


def _orient(tensor: Tensor, rule: Rule) -> Tensor:
    return tensor.t() if rule.transposed and tensor.ndim == 2 else tensor


def _join(name: str, parts: Mapping[int, Tensor], result: Translation) -> None:
    """Stack the parts of one native tensor; parts of different shape or dtype are a problem."""
    ordered = [parts[place] for place in sorted(parts)]
    if len(ordered) == 1:
        result.weights[name] = ordered[0]
        return
    if len({(part.shape, part.dtype) for part in ordered}) == 1:
        result.weights[name] = torch.cat(ordered)
        result.copied += ordered
        return
    found = ", ".join(f"{tuple(part.shape)} {part.dtype}" for part in ordered)
    result.problems.append(f"parts of {name} differ: {found}")
