"""Characters of a compel prompt before parsing, and their places in the prompt.

Rules of compel 2.5.1 (`compel/prompt_parser.py`), found by running it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ecliptic.prompts.reading import Segment, Span
from ecliptic.prompts.tree import Text

BLANK = " \t\n\r\x0b\x0c"  # separates words; other white space is part of a word
NOT_BLANK = re.compile(rf"[^{BLANK}]+")

_COMMA = re.compile(r",(\S)")
# compel drops one backslash each time it copies a text; the second branch only passes over runs
# that escape nothing, so that no run is read again from each of its backslashes
_ESCAPES = re.compile(r'(\\+(?=[()"]))|\\+')
_CONVERTED = re.compile(r'\\[tnfr]|\\"')  # inside quotes
_SPACES = {"\\t": " ", "\\n": " ", "\\f": " ", "\\r": " "}


@dataclass(frozen=True)
class Characters:
    """Characters to parse, and the place of each in the prompt as given."""

    text: str
    origin: tuple[int, ...]
    depth: int = 0  # brackets and quotes around it

    def span(self, start: int, end: int) -> Span:
        """Span in the prompt as given; an empty range is at the start of the next character."""
        if start < end:
            return self.origin[start], self.origin[end - 1] + 1
        if start < len(self.origin):
            return self.origin[start], self.origin[start]
        place = self.origin[-1] + 1 if self.origin else 0
        return place, place

    def make_text(self, start: int, end: int) -> Text:
        r"""A text node with the escapes `\(`, `\)` and `\"` resolved; others stay."""
        return Text(*self.replace(_ESCAPES, lambda run: "" if run[1] else run[0], start, end))

    def unquote(self, start: int, end: int) -> "Characters":
        r"""The inside of quotes: `\n`, `\t`, `\f` and `\r` become spaces, `\"` stays escaped."""
        inside = self.replace(_CONVERTED, lambda one: _SPACES.get(one[0], one[0]), start, end)
        return Characters(*inside, self.depth + 1)

    def replace(
        self, pattern: re.Pattern[str], by: Callable[[re.Match[str]], str], start: int, end: int
    ) -> tuple[str, tuple[int, ...]]:
        """`pattern.sub` from `start` to `end`, with the places of the new characters.

        A replacement takes the places of its match in order, and repeats the last of them.
        """
        pieces: list[str] = []
        origin: list[int] = []
        for match in pattern.finditer(self.text, start, end):
            new, last = by(match), match.end() - 1
            pieces += [self.text[start : match.start()], new]
            origin += self.origin[start : match.start()]
            origin += [self.origin[min(match.start() + index, last)] for index in range(len(new))]
            start = match.end()
        return "".join([*pieces, self.text[start:end]]), (*origin, *self.origin[start:end])


def characters_of(prompt: str) -> Characters:
    """The characters of `prompt`, with a space after every comma, as in compel."""
    size = len(prompt)
    given = Characters(prompt, tuple(range(size)))
    return Characters(*given.replace(_COMMA, lambda comma: f", {comma[1]}", 0, size))


def join_spaced(run: Sequence[Text | Segment]) -> tuple[str, tuple[int, ...]]:
    """Join texts by spaces; the place of a space is after the text before it."""
    origin: list[int] = []
    for number, piece in enumerate(run):
        if number:
            first = piece.origin[0] if piece.origin else 0
            origin.append(origin[-1] + 1 if origin else first)
        origin += piece.origin
    return " ".join(piece.text for piece in run), tuple(origin)
