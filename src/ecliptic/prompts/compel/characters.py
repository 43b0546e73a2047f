"""compel's characters before parsing: what is put in or resolved first, and where each came from.

Rules of compel 2.5.1 (`compel/prompt_parser.py`), found by running it.
"""

import re
from dataclasses import dataclass

from ecliptic.prompts.reading import Span
from ecliptic.prompts.tree import Text

BLANK = " \t\n\r\x0b\x0c"  # what stands between words; other white space belongs to a word

_COMMA = re.compile(r",(\S)")
_ESCAPES = re.compile(r'\\+(?=[()"])')  # compel drops one backslash each time it copies a text
_CONVERTED = re.compile(r'\\[tnfr]|\\"')  # inside quotes
_SPACES = {"\\t": " ", "\\n": " ", "\\f": " ", "\\r": " "}


@dataclass(frozen=True)
class Characters:
    """Characters to parse and the place of each in the prompt as given."""

    text: str
    origin: tuple[int, ...]
    depth: int = 0  # brackets and quotes around it

    def span(self, start: int, end: int) -> Span:
        """Characters of the prompt as given; an empty range lies where the next one starts."""
        if start < end:
            return self.origin[start], self.origin[end - 1] + 1
        place = self.origin[start] if start < len(self.origin) else self._after()
        return place, place

    def _after(self) -> int:
        return self.origin[-1] + 1 if self.origin else 0

    def literal(self, start: int, end: int) -> Text:
        r"""The characters as text, the escapes `\(`, `\)` and `\"` resolved; others stay."""
        kept, at = "", start
        origin: list[int] = []
        for match in _ESCAPES.finditer(self.text, start, end):
            if match.end() < end:
                kept += self.text[at : match.start()]
                origin += self.origin[at : match.start()]
                at = match.end()
        return Text(kept + self.text[at:end], (*origin, *self.origin[at:end]))

    def quoted(self, start: int, end: int) -> "Characters":
        r"""The inside of quotes: `\n` and its like are white space there, `\"` stays escaped."""
        pieces: list[str] = []
        origin: list[int] = []
        at = start
        for match in _CONVERTED.finditer(self.text, start, end):
            pieces += [self.text[at : match.start()], _SPACES.get(match.group(), match.group())]
            origin += self.origin[at : match.start()]
            origin += self.origin[match.start() : match.start() + len(pieces[-1])]
            at = match.end()
        text = "".join([*pieces, self.text[at:end]])
        origin += self.origin[at:end]
        return Characters(text, tuple(origin), self.depth + 1)


def characters_of(prompt: str) -> Characters:
    """`prompt` with a space after every comma, as compel puts it in."""
    pieces: list[str] = []
    origin: list[int] = []
    at = 0
    for match in _COMMA.finditer(prompt):
        pieces += [prompt[at : match.start() + 1], " ", match[1]]
        origin += [*range(at, match.start() + 1), match.start() + 1, match.start() + 1]
        at = match.end()
    return Characters("".join([*pieces, prompt[at:]]), (*origin, *range(at, len(prompt))))
