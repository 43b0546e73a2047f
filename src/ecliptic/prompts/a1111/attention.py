"""A1111's third stage: brackets and BREAK, as a machine over lexemes with two stacks.

Source: `parse_prompt_attention` of modules/prompt_parser.py in AUTOMATIC1111's web UI. Round and
square brackets do not know of each other, so they may cross; a closing bracket multiplies the
weight of everything since its opening one, and brackets still open at the end close there.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from ecliptic.prompts.limits import check_depth, check_weight, finite
from ecliptic.prompts.reading import Break, Line, Segment
from ecliptic.prompts.traced import Traced, joined

ROUND = 1.1  # of "(...)"
SQUARE = 1 / 1.1  # of "[...]"
BREAK = "BREAK"
BREAK_WEIGHT = -1.0

Kind: TypeAlias = Literal["text", "break", "(", "[", ")", "]", ":"]
_TOKEN = re.compile(
    r"(?P<escape>\\[\\()\[\]]?)|(?P<bracket>[(\[])|(?P<weight>:\s*([+-]?[.\d]+)\s*\))"
    r"|(?P<closer>[)\]])|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"\bBREAK\b")
_SPACE = re.compile(r"\s*")
_BRACKETS: dict[str, Kind] = {"(": "(", "[": "[", ")": ")", "]": "]"}

T = TypeVar("T")


@dataclass(slots=True)
class Lexeme:
    """One lexeme; closing ones keep their text, since without a partner they are text."""

    kind: Kind
    text: Traced
    place: int
    weight: float = 1.0
    number: str = ""  # as written in ":number)"


def lexemes(text: Traced, *, before: bool = False, after: bool = False) -> Iterator[Lexeme]:
    """Cut a text into lexemes.

    Args:
        text: of a prompt, or of what stands between two schedules in it.
        before: unknown text precedes it, so that white space at its start is kept even if a
            BREAK follows.
        after: likewise at its end.
    """
    size = len(text.text)
    for match in _TOKEN.finditer(text.text):
        piece, place = text[match.start() : match.end()], text.place(match.start())
        if match["escape"]:
            yield Lexeme("text", piece[1:], place)
        elif match["weight"]:
            yield Lexeme(":", piece, place, number=match[4])
        elif match["bracket"] or match["closer"]:
            yield Lexeme(_BRACKETS[piece.text], piece, place)
        else:
            first = before and match.start() == 0
            last = after and match.end() == size
            yield from _words(piece, first, last)


def _words(piece: Traced, first: bool, last: bool) -> Iterator[Lexeme]:
    """Split at BREAK, which takes the white space around it along."""
    start, size = 0, len(piece.text)
    for match in _BREAK.finditer(piece.text):
        part = piece[start : match.start()]
        words = part.text.rstrip()
        kept = part if first and start == 0 and not words else part[: len(words)]
        yield Lexeme("text", kept, piece.place(start))
        word = piece[match.start() : match.end()]
        yield Lexeme("break", word, word.places[0], BREAK_WEIGHT)
        space = _SPACE.match(piece.text, match.end())
        start = space.end() if space else match.end()
        if last and start == size:
            start = match.end()
    yield Lexeme("text", piece[start:], piece.place(start))


@dataclass(slots=True)
class Weighed(Generic[T]):
    """A piece of the prompt under the product of its brackets."""

    content: T
    weight: float
    place: int


class Machine(Generic[T]):
    """The two stacks, over pieces of any kind."""

    def __init__(self) -> None:
        self.pieces: list[Weighed[T]] = []
        self.open: dict[str, list[int]] = {"(": [], "[": []}

    def append(self, content: T, weight: float, place: int) -> None:
        """Add a piece behind the others."""
        self.pieces.append(Weighed(content, weight, place))

    def bracket(self, lexeme: Lexeme) -> bool:
        """Take an opening or closing lexeme; False where a closing one has no partner."""
        if lexeme.kind in ("(", "["):
            self.open[lexeme.kind].append(len(self.pieces))
            check_depth(sum(map(len, self.open.values())), lexeme.place)
            return True
        stack = self.open["[" if lexeme.kind == "]" else "("]
        if not stack:
            return False
        self._multiply(stack.pop(), factor(lexeme))
        return True

    def finish(self) -> list[Weighed[T]]:
        """Close what is open, the round ones first."""
        for kind, by in (("(", ROUND), ("[", SQUARE)):
            for start in self.open[kind]:
                self._multiply(start, by)
        for piece in self.pieces:
            check_weight(piece.weight, str(piece.weight), piece.place)
        return self.pieces

    def _multiply(self, start: int, by: float) -> None:
        for piece in self.pieces[start:]:
            piece.weight *= by


def factor(lexeme: Lexeme) -> float:
    """What a closing lexeme multiplies by.

    Raises:
        TextError: what stands behind the colon is no finite number, such as "1.2.3".
    """
    if lexeme.kind == ":":
        return finite(lexeme.number, lexeme.place)
    return SQUARE if lexeme.kind == "]" else ROUND


def weigh(stream: Iterable[Lexeme]) -> list[Weighed[Traced]]:
    """Text under its weight, neighbours of the same weight joined; never empty.

    Raises:
        TextError: a weight is no finite number, or brackets are nested too deeply.
    """
    machine: Machine[list[Traced]] = Machine()
    extend = False  # no bracket since the last piece, which then shares every weight to come
    for lexeme in stream:
        if lexeme.kind not in ("text", "break") and machine.bracket(lexeme):
            extend = False
            continue
        if extend and lexeme.weight == machine.pieces[-1].weight:
            machine.pieces[-1].content.append(lexeme.text)
            continue
        machine.append([lexeme.text], lexeme.weight, lexeme.place)
        extend = True
    return _merged(machine.finish())


def _merged(pieces: list[Weighed[list[Traced]]]) -> list[Weighed[Traced]]:
    merged: list[Weighed[list[Traced]]] = []
    for piece in pieces:
        if merged and merged[-1].weight == piece.weight:
            merged[-1].content += piece.content
        else:
            merged.append(piece)
    if not merged:
        return [Weighed(Traced("", ()), 1.0, 0)]
    return [Weighed(joined(piece.content), piece.weight, piece.place) for piece in merged]


def line(text: Traced) -> Line:
    """What the encoder is asked for; BREAK begins a chunk only under a weight of exactly -1."""
    return Line(tuple(_part(piece) for piece in weigh(lexemes(text))))


def _part(piece: Weighed[Traced]) -> Segment | Break:
    if piece.content.text == BREAK and piece.weight == BREAK_WEIGHT:
        return Break(piece.content.span)
    return Segment(piece.content.text, piece.weight, piece.content.places)
