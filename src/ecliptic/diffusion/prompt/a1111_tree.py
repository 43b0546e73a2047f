"""The syntax tree of A1111's prompts, for printing, converting and linting.

The three stages work on text and may cut across brackets; the tree shows what they do to ordinary
prompts. Where round and square brackets cross, it shows each piece under the weight it ends up
with. A BREAK that touches a schedule stands as a `ChunkBreak`, though the words of some step may
make it part of a longer one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeAlias

from ecliptic.diffusion.prompt.a1111_alternatives import Side, sides
from ecliptic.diffusion.prompt.a1111_attention import Machine, Token, factor, tokens
from ecliptic.diffusion.prompt.a1111_schedule import Change, Cycle, Items, read_items
from ecliptic.diffusion.prompt.limits import check_depth
from ecliptic.diffusion.prompt.traced import Traced, joined
from ecliptic.diffusion.prompt.tree import (
    Alternating,
    ChunkBreak,
    Joined,
    Mark,
    Node,
    Scheduled,
    Text,
    Tree,
    Weighted,
    merged,
)

_Atom: TypeAlias = Scheduled | Alternating
_MARKS: dict[str, Mark] = {")": "(", "]": "[", ":": ":"}


def read(text: str) -> Tree:
    """The tree of a prompt.

    Raises:
        TextError: a weight or step is no finite number, or brackets are nested too deeply.
    """
    prompt = Traced.whole(text)
    parts = sides(prompt)
    if len(parts) == 1 and not parts[0].written:
        return _alone(prompt, parts[0].text)
    children = tuple((_side(part), part.weight) for part in parts)
    return (Joined("AND", children, normalize=False, span=(0, len(text))),)


def _alone(prompt: Traced, text: Traced) -> Tree:
    """A prompt with no AND and no weight: the white space at its end stays."""
    nodes, space = _nodes(read_items(text)), prompt[len(text.text) :]
    if nodes and isinstance(nodes[-1], ChunkBreak):
        return nodes  # BREAK takes the space along
    return merged((*nodes, Text(space.text, space.places)))


def _side(part: Side) -> Tree:
    """One side of AND; white space at its end would make no token and is left out."""
    nodes = _nodes(read_items(part.text))
    if not nodes or not isinstance(nodes[-1], Text):
        return nodes
    text = nodes[-1].text.rstrip()
    return merged((*nodes[:-1], Text(text, nodes[-1].origin[: len(text)])))


def _nodes(items: Items, *, branch: bool = False) -> Tree:
    stream = list(_stream(items, branch))
    found = _Nest().read(stream)
    return merged(_flat(stream) if found is None else found)


def _stream(items: Items, branch: bool) -> Iterator[Token | _Atom]:
    """Tokens of the text between schedules, and the schedules as nodes."""
    stretch: list[Traced] = []
    before = branch
    for item in items:
        if isinstance(item, Traced):
            stretch.append(item)
            continue
        yield from tokens(joined(stretch), before=before, after=True)
        yield _atom(item)
        stretch, before = [], True
    yield from tokens(joined(stretch), before=before, after=branch)


def _atom(item: Change | Cycle) -> _Atom:
    if isinstance(item, Cycle):
        return Alternating(tuple(_nodes(one, branch=True) for one in item.options), item.span)
    before, after = _nodes(item.before, branch=True), _nodes(item.after, branch=True)
    return Scheduled(before, after, item.when, item.fraction, item.span)


def _node(token: Token) -> Node:
    if token.kind == "break":
        return ChunkBreak(token.text.span)
    return Text(token.text.text, token.text.places)


@dataclass(slots=True)
class _Frame:
    opener: str
    place: int
    children: list[Node] = field(default_factory=list)


class _Nest:
    """One stack for both kinds of brackets, which suffices unless they cross."""

    def __init__(self) -> None:
        self.frames = [_Frame("", 0)]

    def read(self, stream: list[Token | _Atom]) -> list[Node] | None:
        """The nested nodes, or None where that is not what the brackets mean."""
        end = 0
        for token in stream:
            if isinstance(token, Token):
                if self._crosses(token):
                    return None
                self._take(token)
                end = token.place + len(token.text.text)
            else:
                self._add(token)
                end = token.span[1]
        if len(self.frames) > 1 and not all(isinstance(token, Token) for token in stream):
            return None  # closing a bracket behind a schedule could make a weight of its words
        while len(self.frames) > 1:
            by = Token(")" if self.frames[-1].opener == "(" else "]", Traced("", ()), end)
            self._close(by)
        return self.frames[0].children

    def _add(self, node: Node) -> None:
        self.frames[-1].children.append(node)

    def _crosses(self, token: Token) -> bool:
        opener = _opener(token)
        inside = any(frame.opener == opener for frame in self.frames)
        return opener != "" and inside and self.frames[-1].opener != opener

    def _take(self, token: Token) -> None:
        if token.kind in ("(", "["):
            self.frames.append(_Frame(token.kind, token.place))
            check_depth(len(self.frames) - 1, token.place)
        elif self.frames[-1].opener and self.frames[-1].opener == _opener(token):
            self._close(token)
        else:
            self._add(_node(token))

    def _close(self, token: Token) -> None:
        frame = self.frames.pop()
        span = (frame.place, token.place + len(token.text.text))
        children = merged(frame.children)
        self._add(Weighted(children, factor(token), _MARKS[token.kind], span))


def _opener(token: Token) -> str:
    return {")": "(", ":": "(", "]": "["}.get(token.kind, "")


def _flat(stream: list[Token | _Atom]) -> list[Node]:
    machine: Machine[Node] = Machine()
    for token in stream:
        if not isinstance(token, Token):
            machine.append(token, 1.0, token.span[0])
        elif token.kind in ("text", "break") or not machine.bracket(token):
            machine.append(_node(token), 1.0, token.place)
    found: list[Node] = []
    for weight, group in groupby(machine.finish(), key=lambda piece: piece.weight):
        children = merged(piece.content for piece in group)
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
