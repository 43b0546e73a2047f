"""A1111's third stage: brackets and BREAK, read by a machine with two stacks.

Source: `parse_prompt_attention` of modules/prompt_parser.py in AUTOMATIC1111's web UI. Round and
square brackets are independent, so they can cross. A closing bracket multiplies the weight of all
pieces since its opening bracket. Brackets that are open at the end close there.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from ecliptic.prompts.limits import check_depth, check_weight, read_number
from ecliptic.prompts.reading import Break, Line, Segment
from ecliptic.prompts.traced import Traced, join

ROUND = 1.1  # of "(...)"
SQUARE = 1 / 1.1  # of "[...]"
BREAK = "BREAK"
BREAK_WEIGHT = -1.0

LexemeKind: TypeAlias = Literal["text", "break", "(", "[", ")", "]", ":"]
_TOKEN = re.compile(
    r"(?P<escape>\\[\\()\[\]]?)|(?P<bracket>[(\[])|(?P<weight>:\s*([+-]?[.\d]+)\s*\))"
    r"|(?P<closer>[)\]])|[^\\()\[\]:]+|:"
)
_BREAK = re.compile(r"\bBREAK\b")
_SPACE = re.compile(r"\s*")
_BRACKETS: dict[str, LexemeKind] = {"(": "(", "[": "[", ")": ")", "]": "]"}

T = TypeVar("T")


@dataclass(slots=True)
class Lexeme:
    """One lexeme; a closing one keeps its text, since without a partner it is text."""

    kind: LexemeKind
    text: Traced
    place: int
    weight: float = 1.0
    number: str = ""  # of ":number)", as written


def split_lexemes(text: Traced, *, before: bool = False, after: bool = False) -> Iterator[Lexeme]:
    """Cut a text into lexemes.

    Args:
        text: of a prompt, or the part of it between two schedules.
        before: unknown text comes before it, so white space at its start is kept even if a
            BREAK follows.
        after: the same at its end.
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
            yield from _split_at_break(piece, first, last)


def _split_at_break(piece: Traced, first: bool, last: bool) -> Iterator[Lexeme]:
    """Split at BREAK and the white space around it."""
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
    """A piece of the prompt; its weight is the product of its brackets."""

    content: T
    weight: float
    place: int


class Machine(Generic[T]):
    """Multiplies the weights of pieces of any kind, with one stack per kind of bracket."""

    def __init__(self) -> None:
        self.pieces: list[Weighed[T]] = []
        self.open: dict[str, list[int]] = {"(": [], "[": []}

    def append(self, content: T, weight: float, place: int) -> None:
        """Add a piece at the end."""
        self.pieces.append(Weighed(content, weight, place))

    def take_bracket(self, lexeme: Lexeme) -> bool:
        """Take an opening or closing lexeme; False if a closing one has no partner."""
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
        """Close all open brackets, the round ones first."""
        for kind, by in (("(", ROUND), ("[", SQUARE)):
            for start in self.open[kind]:
                self._multiply(start, by)
        for piece in self.pieces:
            check_weight(piece.weight, piece.place)
        return self.pieces

    def _multiply(self, start: int, by: float) -> None:
        for piece in self.pieces[start:]:
            piece.weight *= by


def factor(lexeme: Lexeme) -> float:
    """The factor of a closing lexeme.

    Raises:
        TextError: the text after the colon is not a finite number, such as "1.2.3".
    """
    if lexeme.kind == ":":
        return read_number(lexeme.number, lexeme.place)
    return SQUARE if lexeme.kind == "]" else ROUND


def weigh(stream: Iterable[Lexeme]) -> list[Weighed[Traced]]:
    """Texts with their weights, neighbours of equal weight joined; at least one.

    Raises:
        TextError: a weight is not a finite number, or brackets are nested too deeply.
    """
    machine: Machine[list[Traced]] = Machine()
    extend = False  # True if no bracket came since the last piece: texts of equal weight join it
    for lexeme in stream:
        if lexeme.kind not in ("text", "break") and machine.take_bracket(lexeme):
            extend = False
            continue
        if extend and lexeme.weight == machine.pieces[-1].weight:
            machine.pieces[-1].content.append(lexeme.text)
            continue
        machine.append([lexeme.text], lexeme.weight, lexeme.place)
        extend = True
    return _merge_pieces(machine.finish())


def _merge_pieces(pieces: list[Weighed[list[Traced]]]) -> list[Weighed[Traced]]:
    merged: list[Weighed[list[Traced]]] = []
    for piece in pieces:
        if merged and merged[-1].weight == piece.weight:
            merged[-1].content += piece.content
        else:
            merged.append(piece)
    if not merged:
        return [Weighed(Traced("", ()), 1.0, 0)]
    return [Weighed(join(piece.content), piece.weight, piece.place) for piece in merged]


def read_line(text: Traced) -> Line:
    """Read a text as one line; BREAK starts a chunk only under a weight of exactly -1."""
    return Line(tuple(_make_part(piece) for piece in weigh(split_lexemes(text))))


def _make_part(piece: Weighed[Traced]) -> Segment | Break:
    if piece.content.text == BREAK and piece.weight == BREAK_WEIGHT:
        return Break(piece.content.span)
    return Segment(piece.content.text, piece.weight, piece.content.places)
