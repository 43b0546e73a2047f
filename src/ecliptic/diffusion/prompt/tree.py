"""The syntax tree of prompts: one set of nodes for every dialect.

Nodes say what was written, not what it means to an encoder; `reading.py` says that. Each knows the
characters it came from, so that findings and ledgers can point at them.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ecliptic.diffusion.prompt.reading import Span

Mark: TypeAlias = Literal["(", "[", ":", "+", "-", "number"]  # how a weight was written


@dataclass(frozen=True)
class Text:
    """Characters for the tokenizer, escapes already resolved."""

    text: str
    origin: tuple[int, ...] = ()  # place in the prompt of each character


@dataclass(frozen=True)
class Weighted:
    """A group under a weight of its own, outer weights not yet applied."""

    children: tuple["Node", ...]
    weight: float
    mark: Mark
    span: Span


@dataclass(frozen=True)
class ChunkBreak:
    """A1111's BREAK."""

    span: Span


@dataclass(frozen=True)
class Scheduled:
    """A1111's `[before:after:when]`; `when` below 1 with a point is a fraction of the steps."""

    before: tuple["Node", ...]
    after: tuple["Node", ...]
    when: float
    fraction: bool
    span: Span


@dataclass(frozen=True)
class Alternating:
    """A1111's `[a|b]`: another option at each step."""

    options: tuple[tuple["Node", ...], ...]
    span: Span


@dataclass(frozen=True)
class Swap:
    """compel's `a.swap(b)`; both sides kept, since only some samplers can use it."""

    before: tuple["Node", ...]
    after: tuple["Node", ...]
    options: tuple[tuple[str, float], ...]
    span: Span


@dataclass(frozen=True)
class LoraUse:
    """compel's `withLora(name, weight)`."""

    name: str
    weight: float
    span: Span


@dataclass(frozen=True)
class Joined:
    """Whole prompts side by side: A1111's AND, compel's `.blend` and `.and`."""

    kind: Literal["AND", "blend", "and"]
    parts: tuple[tuple[tuple["Node", ...], float], ...]
    normalize: bool  # of a blend: divide by the sum of the weights
    span: Span


Node: TypeAlias = (
    Text | Weighted | ChunkBreak | Scheduled | Alternating | Swap | LoraUse | Joined
)
Tree: TypeAlias = tuple[Node, ...]
