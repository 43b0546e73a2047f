"""The syntax tree of prompts: one set of nodes for every dialect.

Nodes say what was written, not what it means to an encoder; `reading.py` says that. Each knows the
characters it came from, so that findings and ledgers can point at them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from ecliptic.prompts.reading import Span

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
    """A1111's `[before:after:when]`; written with a point, `when` is a fraction of the steps."""

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


Node: TypeAlias = Text | Weighted | ChunkBreak | Scheduled | Alternating | Swap | LoraUse | Joined
Tree: TypeAlias = tuple[Node, ...]


def merged(nodes: Iterable[Node]) -> Tree:
    """The same nodes with neighbouring texts made one, and empty ones left out."""
    found: list[Node] = []
    for kind, group in groupby(nodes, key=type):
        if kind is Text:
            texts = [node for node in group if isinstance(node, Text)]
            text = "".join(node.text for node in texts)
            origin = tuple(place for node in texts for place in node.origin)
            found += [Text(text, origin)] if text else []
        else:
            found += group
    return tuple(found)


def branches(node: Node) -> tuple[Tree, ...]:
    """The trees directly inside a node, in the order they were written."""
    if isinstance(node, Weighted):
        return (node.children,)
    if isinstance(node, Scheduled | Swap):
        return (node.before, node.after)
    if isinstance(node, Alternating):
        return node.options
    if isinstance(node, Joined):
        return tuple(children for children, _ in node.parts)
    return ()


def walk(tree: Tree) -> Iterator[Node]:
    """Every node, each before what is inside it."""
    for node in tree:
        yield node
        for inside in branches(node):
            yield from walk(inside)
