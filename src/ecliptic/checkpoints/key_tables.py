"""Two-way key tables: another project's tensor names and orientations <-> ours, as data.

A table is rows of templates in which `#` stands for a number and `*` for the last part of a name
("weight", "bias", ...). Which rows exist is each layout's own matter; sizes are `identify`'s.
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
    """What became of a file's tensors; `unexpected` and `problems` make a mismatch error."""

    weights: dict[str, Tensor] = field(default_factory=dict)  # native-named
    unexpected: dict[str, Tensor] = field(default_factory=dict)  # no row knows them
    dropped: list[str] = field(default_factory=list)  # known and not needed
    partial: list[str] = field(default_factory=list)  # stacked parts, some of which are missing
    problems: list[str] = field(default_factory=list)  # parts that do not fit together


class KeyTable:
    """Rows of one naming scheme. `dropped` are templates of buffers that carry no weights."""

    def __init__(self, rules: Iterable[Rule], dropped: Iterable[str] = ()) -> None:
        self._rules = tuple(rules)
        self._inward = [
            (_pattern(template), rule, place)
            for rule in self._rules
            for place, template in enumerate(rule.sources)
        ]
        self._outward = [(_pattern(rule.ours), rule) for rule in self._rules]
        self._dropped = [_pattern(template) for template in dropped]

    def to_native(self, tensors: Mapping[str, Tensor]) -> Translation:
        """Rename, transpose and stack; nothing is copied but what has to be stacked."""
        result = Translation()
        parts: dict[str, dict[int, Tensor]] = {}  # native name -> place -> tensor
        for name, tensor in tensors.items():
            if any(pattern.fullmatch(name) for pattern in self._dropped):
                result.dropped.append(name)
                continue
            found = self._native_name(name)
            if found is None:
                result.unexpected[name] = tensor
                continue
            ours, rule, place = found
            parts.setdefault(ours, {})[place] = tensor.t() if _turns(rule, tensor) else tensor
            if len(parts[ours]) == len(rule.sources):
                _join(ours, parts[ours], result)
            else:
                result.partial.append(name)
        return result

    def from_native(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `to_native`; KeyError for a name the table cannot write."""
        written: dict[str, Tensor] = {}
        for name, tensor in weights.items():
            rule, theirs = self._foreign(name)
            parts = tensor.chunk(len(theirs)) if len(theirs) > 1 else (tensor,)
            for key, part in zip(theirs, parts, strict=True):
                written[key] = part.t() if _turns(rule, part) else part
        return written

    def foreign_names(self, name: str) -> tuple[str, ...]:
        """Their name or names of the native `name`; the first row that fits is the one written."""
        return self._foreign(name)[1]

    def is_transposed(self, name: str) -> bool:
        """Whether their tensor is the transpose of the native `name`."""
        return self._foreign(name)[0].transposed

    def _native_name(self, name: str) -> tuple[str, Rule, int] | None:
        for pattern, rule, place in self._inward:
            if match := pattern.fullmatch(name):
                return _fill(rule.ours, match), rule, place
        return None

    def _foreign(self, name: str) -> tuple[Rule, tuple[str, ...]]:
        for pattern, rule in self._outward:
            if match := pattern.fullmatch(name):
                return rule, tuple(_fill(template, match) for template in rule.sources)
        raise KeyError(name)


def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"([#*])", template)
    return re.compile("".join(_WILDCARDS.get(piece) or re.escape(piece) for piece in pieces))


def _fill(template: str, match: re.Match[str]) -> str:
    values = iter(match.groups())
    return re.sub(r"[#*]", lambda _: next(values), template)


def _turns(rule: Rule, tensor: Tensor) -> bool:
    return rule.transposed and tensor.ndim == 2


def _join(name: str, parts: Mapping[int, Tensor], result: Translation) -> None:
    """Put one native tensor together; parts of different shape or dtype are a problem."""
    ordered = [parts[place] for place in sorted(parts)]
    if len(ordered) == 1:
        result.weights[name] = ordered[0]
        return
    if len({(part.shape, part.dtype) for part in ordered}) == 1:
        result.weights[name] = torch.cat(ordered)
        return
    found = ", ".join(f"{tuple(part.shape)} {part.dtype}" for part in ordered)
    result.problems.append(f"parts of {name} differ: {found}")
