"""Cleans text as CLIP does, and finds the original place of each clean character.

Source: openai/CLIP clip/simple_tokenizer.py `basic_clean`, `whitespace_clean` and `encode`: ftfy,
HTML entities twice, white space, lower case. Offsets count characters of the original text.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import regex

from ecliptic.errors import TextError

Span = tuple[int, int]  # (start, end) characters of the original text

_DIGITS = re.compile(r"&#[0-9]{641,}")  # Python reads 640 digits under any limit
_MARKS = regex.compile(r"\P{Canonical_Combining_Class=0}{32,}")
_MANY_MARKS = 1000  # in a run; from here on arrays are quicker
# `html.unescape` reads names of up to 32 characters
_OPEN_ENTITY = re.compile(r"&(?:#[0-9]*|#[xX][0-9a-fA-F]*|[^\t\n\f <&#;]{0,32})")
_UNTIDY = re.compile(r"[^\t\n\f -%'-~]")  # what ftfy or html.unescape may change; "&" is one
# Ways to cut, from coarse to fine; each is used only where the repaired pieces join to the
# repaired whole.
_CUTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[ \t\n\f\r]+|[^ \t\n\f\r]+",  # words
        r"(?:&(?:#?\w{1,32};)+)|[^&]+|&",  # entities
        r"[ -~]+|[^ -~]+",  # runs of ASCII and of everything else
    )
)


@dataclass(frozen=True)
class Cleaned:
    """Clean text; character i came from `original[starts[i]:ends[i]]`, in order."""

    text: str
    starts: list[int]
    ends: list[int]

    def span(self, start: int, end: int) -> Span:
        """Original span of characters `start` to `end` (at least one) of the clean text."""
        return self.starts[start], self.ends[end - 1]


def clean(text: str) -> str:
    """Repair and unescape `text`, make each space single and all letters lower case.

    Raises TextError as `repair` does.
    """
    return " ".join(repair(text).split()).lower()


def repair(text: str, *, whole: bool = True) -> str:
    """Remove mojibake, curly quotes, control characters and HTML entities.

    Args:
        text: any text.
        whole: False where more follows. The result is then the part that cannot depend on it, if
            `text` ends where a segment of `ftfy.fix_text` does.

    Raises:
        TextError: a numeric entity has more digits than Python reads, where the reference fails.
    """
    if not _UNTIDY.search(text):
        return text
    import ftfy  # takes 30 ms, and most captions do not need it

    fixed = ftfy.fix_text(_MARKS.sub(_order_marks, text))
    try:
        return _unescape(_unescape(fixed, whole), whole)
    except ValueError:  # of `int`
        found = _DIGITS.search(text)
        raise TextError(
            "an HTML entity such as '&#65;' has thousands of digits, which cannot be read; remove "
            "the digits after '&#'.",
            place=found.start() if found else None,
        ) from None


def _order_marks(run: "regex.Match[str]") -> str:
    """Order combining marks as NFC does; `unicodedata` takes quadratic time to do so."""
    if len(run.group()) < _MANY_MARKS:
        return "".join(sorted(run.group(), key=unicodedata.combining))
    marks = np.frombuffer(run.group().encode("utf-32-le"), dtype="<u4")
    kinds, index = np.unique(marks, return_inverse=True)
    classes = np.array([unicodedata.combining(chr(kind)) for kind in kinds], dtype=np.uint8)
    return marks[np.argsort(classes[index], kind="stable")].tobytes().decode("utf-32-le")


def _unescape(text: str, whole: bool) -> str:
    """Replace HTML entities; if more follows, without an entity that may not end here."""
    start = -1 if whole else text.rfind("&")
    if start >= 0 and _OPEN_ENTITY.fullmatch(text, start):
        text = text[:start]
    return html.unescape(text)


def is_mojibake(text: str) -> bool:
    """Whether `text` looks like bytes that were decoded with the wrong encoding."""
    if text.isascii():
        return False
    import ftfy

    return ftfy.fix_encoding(text) != text


def clean_with_offsets(text: str) -> Cleaned:
    """`clean(text)` with the original place of each character.

    Exact for white space, letter case, entities and all that ftfy does not change. Where ftfy
    rewrites characters, the new ones share evenly the places of the smallest run that can be
    repaired separately.
    """
    repaired = repair(text)
    spans = [span for piece in repaired_pieces(text) for span in _share_span(*piece)]
    found: list[Span] = []  # of each clean character
    for word in re.finditer(r"\S+", repaired):
        if found:
            found.append((found[-1][1], spans[word.start()][0]))  # the one space between words
        for place in range(*word.span()):
            found += [spans[place]] * len(repaired[place].lower())  # "İ" becomes two characters
    return Cleaned(clean(text), [start for start, _ in found], [end for _, end in found])


def repaired_pieces(text: str) -> list[tuple[str, str, int]]:
    """(original, repaired, offset) of the pieces of `text` that can be repaired separately."""
    return _split(text, 0, 0, cache(repair))  # the cache lasts for this call


def _split(
    text: str, offset: int, level: int, fix: Callable[[str], str]
) -> list[tuple[str, str, int]]:
    """Cut `text` at finer and finer levels while the repaired pieces join to the repaired whole."""
    whole = fix(text)
    if whole == text or level == len(_CUTS):
        return [(text, whole, offset)]
    pieces = _CUTS[level].findall(text)
    try:
        joined = "".join(map(fix, pieces))
    except TextError:  # a piece alone may be unescaped once more than in the whole
        return [(text, whole, offset)]
    if joined != whole:
        return [(text, whole, offset)]
    found: list[tuple[str, str, int]] = []
    for piece in pieces:
        found += _split(piece, offset, level + 1, fix)
        offset += len(piece)
    return found


def _share_span(original: str, repaired: str, offset: int) -> list[Span]:
    """A span for each repaired character: common ends one to one, the middle in proportion."""
    head = _common_length(original, repaired)
    tail = _common_length(original[head:][::-1], repaired[head:][::-1])
    old, new = len(original) - head - tail, len(repaired) - head - tail
    spans = [(place, place + 1) for place in range(head)]
    for place in range(new):
        start = head + place * old // new
        end = max(start + 1, head + (place + 1) * old // new)
        spans.append((start, min(end, len(original))))
    spans += [(place, place + 1) for place in range(head + old, len(original))]
    if old and not new and spans:  # "&amp;" becomes "&": a neighbour takes the removed part
        kept = max(head - 1, 0)
        spans[kept] = (min(spans[kept][0], head), max(spans[kept][1], head + old))
    return [(offset + start, offset + end) for start, end in spans]


def _common_length(one: str, other: str) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
