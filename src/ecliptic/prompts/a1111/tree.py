"""The syntax tree of A1111's prompts, for printing, converting and linting.

The three stages work on text and can cut across brackets; the tree shows their effect on ordinary
prompts. Where round and square brackets cross, it shows each piece with its final weight. A BREAK
that touches a schedule is a `ChunkBreak`, though at some step it may be part of a longer word.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from ecliptic.prompts.a1111.alternatives import AndPart, split_at_and
from ecliptic.prompts.a1111.attention import Lexeme, Machine, factor, split_lexemes
from ecliptic.prompts.a1111.networks import take_networks
from ecliptic.prompts.a1111.schedule import Change, Cycle, ScheduleItems, parse_items
from ecliptic.prompts.limits import check_depth
from ecliptic.prompts.traced import Traced, join
from ecliptic.prompts.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    Mark,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    merge,
)

_Atom: TypeAlias = Scheduled | Alternating
_MARKS: dict[str, Mark] = {")": "(", "]": "[", ":": ":"}


def read(text: str) -> Tree:
    """The tree of a prompt; the tags of networks are its last nodes.

    Raises:
        TextError: a weight or step is not a finite number, or brackets are nested too deeply.
    """
    prompt, networks = take_networks(Traced.whole(text))
    parts = split_at_and(prompt)
    if len(parts) == 1 and parts[0].weight_span is None:
        return (*_read_whole(prompt, parts[0].text), *networks)
    children = tuple((_read_side(part), part.weight) for part in parts)
    return (Joined("AND", children, normalize=False, span=(0, len(text))), *networks)


def _read_whole(prompt: Traced, text: Traced) -> Tree:
    """Read a prompt without AND and weight; the white space at its end stays."""
    nodes, space = _read_nodes(parse_items(text)), prompt[len(text.text) :]
    if nodes and isinstance(nodes[-1], ChunkBreak):
        return nodes  # the space belongs to BREAK
    return merge((*nodes, Text(space.text, space.places)))


def _read_side(part: AndPart) -> Tree:
    """Read one side of AND; white space at its end makes no lexeme and is left out."""
    nodes = _read_nodes(parse_items(part.text))
    if not nodes or not isinstance(nodes[-1], Text):
        return nodes
    text = nodes[-1].text.rstrip()
    return merge((*nodes[:-1], Text(text, nodes[-1].origin[: len(text)])))


def _read_nodes(items: ScheduleItems, *, branch: bool = False) -> Tree:
    stream = list(_make_stream(items, branch))
    found = _Nest().read(stream)
    return merge(_read_crossing(stream) if found is None else found)


def _make_stream(items: ScheduleItems, branch: bool) -> Iterator[Lexeme | _Atom]:
    """Yield the lexemes of the text between schedules, and the schedules as nodes."""
    stretch: list[Traced] = []
    before = branch
    for item in items:
        if isinstance(item, Traced):
            stretch.append(item)
            continue
        yield from split_lexemes(join(stretch), before=before, after=True)
        yield _make_atom(item)
        stretch, before = [], True
    yield from split_lexemes(join(stretch), before=before, after=branch)


def _make_atom(item: Change | Cycle) -> _Atom:
    if isinstance(item, Cycle):
        return Alternating(tuple(_read_nodes(one, branch=True) for one in item.options), item.span)
    before, after = _read_nodes(item.before, branch=True), _read_nodes(item.after, branch=True)
    return Scheduled(before, after, item.when, item.fraction, item.span)


def _make_node(lexeme: Lexeme) -> Node:
    if lexeme.kind == "break":
        return ChunkBreak(lexeme.text.span)
    return Text(lexeme.text.text, lexeme.text.places)


@dataclass(slots=True)
class _Frame:
    opener: str
    place: int
    children: list[Node] = field(default_factory=list)


class _Nest:
    """Nests brackets of both kinds with one stack, which is enough unless they cross."""

    def __init__(self) -> None:
        self.frames = [_Frame("", 0)]

    def read(self, stream: list[Lexeme | _Atom]) -> list[Node] | None:
        """The nested nodes; None if the brackets do not simply nest."""
        end = 0
        for lexeme in stream:
            if isinstance(lexeme, Lexeme):
                if self._crosses(lexeme):
                    return None
                self._take(lexeme)
                end = lexeme.place + len(lexeme.text.text)
            else:
                self._add(lexeme)
                end = lexeme.span[1]
        if len(self.frames) > 1 and not all(isinstance(lexeme, Lexeme) for lexeme in stream):
            return None  # a bracket closed after a schedule could turn its words into a weight
        while len(self.frames) > 1:
            closer = Lexeme(")" if self.frames[-1].opener == "(" else "]", Traced("", ()), end)
            self._close(closer)
        return self.frames[0].children

    def _add(self, node: Node) -> None:
        self.frames[-1].children.append(node)

    def _crosses(self, lexeme: Lexeme) -> bool:
        opener = _opener(lexeme)
        inside = any(frame.opener == opener for frame in self.frames)
        return opener != "" and inside and self.frames[-1].opener != opener

    def _take(self, lexeme: Lexeme) -> None:
        if lexeme.kind in ("(", "["):
            self.frames.append(_Frame(lexeme.kind, lexeme.place))
            check_depth(len(self.frames) - 1, lexeme.place)
        elif self.frames[-1].opener and self.frames[-1].opener == _opener(lexeme):
            self._close(lexeme)
        else:
            self._add(_make_node(lexeme))

    def _close(self, lexeme: Lexeme) -> None:
        frame = self.frames.pop()
        span = (frame.place, lexeme.place + len(lexeme.text.text))
        children = merge(frame.children)
        self._add(Weighted(children, factor(lexeme), _MARKS[lexeme.kind], span))


def _opener(lexeme: Lexeme) -> str:
    return {")": "(", ":": "(", "]": "["}.get(lexeme.kind, "")


def _read_crossing(stream: list[Lexeme | _Atom]) -> list[Node]:
    machine: Machine[Node] = Machine()
    for lexeme in stream:
        if not isinstance(lexeme, Lexeme):
            machine.append(lexeme, 1.0, lexeme.span[0])
        elif lexeme.kind in ("text", "break") or not machine.take_bracket(lexeme):
            machine.append(_make_node(lexeme), 1.0, lexeme.place)
    found: list[Node] = []
    for weight, group in groupby(machine.finish(), key=lambda piece: piece.weight):
        children = merge(piece.content for piece in group)
        if weight == 1.0:
            found += children
        elif children:
            span = (_span(children[0])[0], _span(children[-1])[1])
            found.append(Weighted(children, weight, ":", span))
    return found


def _span(node: Node) -> tuple[int, int]:
    if isinstance(node, Text):
        return (node.origin[0], node.origin[-1] + 1) if node.origin else (0, 0)
    return node.span
