"""The beginning of a long text: cleaned, and cut into words, without reading the rest.

The tokenizer looks ahead: an entity, a word or a final sigma may go on behind the characters that
were read. So each step here keeps only what no text after them can change, and the ids are those
of the whole text. `tokenizer.py` asks for a longer beginning where this is too little.
"""

import re
from collections.abc import Iterator

import regex

from ecliptic.inputs.cleaning import repair

FIRST = 1 << 16  # characters that are read first
_GROWTH = 8  # how many times longer the next beginning is
_LOOK_AHEAD = 3  # characters that decide where a word begins, such as "'re"
_CHUNK = re.compile(r"\S+")

Piece = tuple[str, bool]  # characters, and whether they end here in every longer text


def repaired_beginnings(text: str) -> Iterator[Piece]:
    """Longer and longer beginnings of `repair(text)`; the last is all of it.

    ftfy repairs a text in segments, one after the other, so that the segments read so far give the
    beginning of the repaired text. Raises TextError as `repair` does, for the part that is read.
    """
    size = FIRST
    while (end := _segment_end(text, size)) < len(text):
        yield repair(text[:end], whole=False), False
        size *= _GROWTH
    yield repair(text), True


def chunks(repaired: str, *, whole: bool) -> Iterator[Piece]:
    """The lower-case chunks between white space."""
    for match in _CHUNK.finditer(repaired):
        chunk = match.group()
        ends = whole or match.end() < len(repaired)
        yield (chunk.lower() if ends else _lower_open(chunk)), ends


def words(chunk: str, pattern: "regex.Pattern[str]", *, whole: bool) -> Iterator[Piece]:
    """The words of a chunk."""
    known = len(chunk) if whole else len(chunk) - _LOOK_AHEAD
    for match in pattern.finditer(chunk):
        if match.end() <= known:
            yield match.group(), True
            continue
        if match.start() <= known:
            yield match.group(), False
        return


def _lower_open(chunk: str) -> str:
    """Lower-case letters of a chunk that may go on; a sigma at its end could be either form."""
    lowered, longer = chunk.lower(), f"{chunk}a".lower()
    if longer.startswith(lowered):
        return lowered
    same = (one == other for one, other in zip(lowered, longer, strict=False))
    return lowered[: list(same).index(False)]


def _segment_end(text: str, size: int) -> int:
    """The end of the segment of `ftfy.fix_text` that has character `size`: lines, or a million."""
    import ftfy  # takes 30 ms, and most texts are short

    longest, end = ftfy.TextFixerConfig().max_decode_length, 0
    while end < min(size, len(text)):
        line = text.find("\n", end, end + longest) + 1
        end = line or min(end + longest, len(text))
    return end
