"""The syntax tree of prompts: one set of nodes for every dialect.

Nodes hold the syntax as written; `reading.py` holds its meaning for an encoder. Each node has the
characters it came from, so that findings and ledgers can point at them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

from ecliptic.prompts.reading import Span

Mark: TypeAlias = Literal["(", "[", ":", "+", "-", "number"]  # the syntax of a weight


@dataclass(frozen=True)
class Text:
    """Characters for the tokenizer, with escapes resolved."""

    text: str
    origin: tuple[int, ...] = ()  # place in the prompt of each character


@dataclass(frozen=True)
class Weighted:
    """A group with its own weight; outer weights are not applied yet."""

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
    """A1111's `[before:after:when]`; `when` with a point is a fraction of the steps."""

    before: tuple["Node", ...]
    after: tuple["Node", ...]
    when: float
    fraction: bool
    span: Span


@dataclass(frozen=True)
class Alternating:
    """A1111's `[a|b]`: the next option at each step."""

    options: tuple[tuple["Node", ...], ...]
    span: Span


@dataclass(frozen=True)
class Swap:
    """compel's `a.swap(b)`; keeps both sides, since only some samplers can use it."""

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
class Network:
    """A1111's `<lora:name:0.8>` or another tag in angle brackets; not text, and for all words."""

    kind: str  # "lora", "lyco", "hypernet", or any other word, which A1111 takes out too
    name: str
    weight: float  # for the text encoders
    denoiser_weight: float  # for the denoiser
    rank: str | None  # `dyn=`: keep only so many ranks
    items: tuple[str, ...]  # all between the colons, as written
    span: Span

    @property
    def is_lora(self) -> bool:
        """Whether it names a LoRA file."""
        return self.kind in ("lora", "lyco")


@dataclass(frozen=True)
class Joined:
    """Whole prompts side by side: A1111's AND, compel's `.blend` and `.and`."""

    kind: Literal["AND", "blend", "and"]
    parts: tuple[tuple[tuple["Node", ...], float], ...]
    normalize: bool  # of a blend: divide by the sum of the weights
    span: Span


Node: TypeAlias = (
    Text | Weighted | ChunkBreak | Scheduled | Alternating | Swap | LoraUse | Network | Joined
)
Tree: TypeAlias = tuple[Node, ...]


def merge(nodes: Iterable[Node]) -> Tree:
    """Merge neighbouring texts, and leave out empty ones."""
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
    """The trees directly inside a node, in the order of the text."""
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
    """Yield every node, each before the nodes inside it."""
    for node in tree:
        yield node
        for inside in branches(node):
            yield from walk(inside)


def loras(tree: Tree) -> tuple[tuple[str, float], ...]:
    """(name, weight) of every LoRA of compel's prompts, in order; A1111's are `networks`."""
    return tuple((node.name, node.weight) for node in walk(tree) if isinstance(node, LoraUse))


def networks(tree: Tree) -> tuple[Network, ...]:
    """The tags of A1111's extra networks, in order."""
    return tuple(node for node in tree if isinstance(node, Network))
