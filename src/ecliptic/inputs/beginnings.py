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
# What cleans to white space or to nothing, alone and among its like: controls, spaces, and
# entities of them. NUL is left out among the entities: it becomes U+FFFD.
_NUMBERS = (
    "#0{0,9}(?:[1-9]|[12][0-9]|3[0-2]|127|160);|#[xX]0{0,9}(?:1?[1-9a-fA-F]|10|20|7[fF]|[aA]0);"
)
_BLANK = rf"[\0-\t\x0b-\x1a\x1c-\x20\x7f\xa0]|&(?:nbsp;|Tab;|NewLine;|{_NUMBERS})"
_BLANK_LINES = re.compile(rf"^(?:(?:{_BLANK})*+\n){{2,}}+", re.MULTILINE)
_BLANK_RUN = re.compile(rf"(?:{_BLANK}){{200,}}+")
_HARD_SPACE = re.compile(r"\xa0|nbsp;|160;|[aA]0;")
_SPACE = re.compile(r"[\t\f\r ]|Tab;|NewLine;|#0*(?:9|1[023]|32);|#[xX]0*(?:9|[aAcCdD]|20);")
KEPT = 100  # characters of a run at both ends; ftfy looks at less around a character
_CHUNK = re.compile(r"\S+")

Piece = tuple[str, bool]  # characters, and whether they end here in every longer text


def repaired_beginnings(text: str) -> Iterator[Piece]:
    """Longer and longer beginnings of `repair(text)`; the last is all of it.

    ftfy repairs a text in segments, one after the other, so that the segments read so far give the
    beginning of the repaired text. Raises TextError as `repair` does, for the part that is read.
    """
    size = FIRST
    while (end := _segment_end(text, size)) < len(text):
        yield repair(blank(text[:end]), whole=False), False
        size *= _GROWTH
    yield repair(blank(text)), True


def blank(text: str) -> str:
    """Put plain spaces or NUL in place of long runs that clean to nothing.

    The cleaned text is the same, and so is the length, but ftfy reads it much faster. The ends of
    a run stay, since ftfy looks at the neighbours of a character.
    """
    text = _BLANK_LINES.sub(_blank_lines, text)
    longest = _longest_segment()
    return _BLANK_RUN.sub(lambda run: _blank_run(run, longest), text)


def _blank_lines(run: re.Match[str]) -> str:
    """One line of spaces; what stands behind the last line end stays.

    Python 3.11.0 to 3.11.4 match too much there: after a possessive group whose last round fails,
    they go on where it failed.
    """
    lines, _, rest = run.group().rpartition("\n")
    return " " * len(lines) + "\n" + rest


def _blank_run(run: re.Match[str], longest: int) -> str:
    """Shorten each part of a run that is in one segment of ftfy."""
    start, end = run.span()
    line = run.string.rfind("\n", 0, start) + 1
    parts, cut = [], line + (start - line) // longest * longest
    while start < end:
        cut += longest
        parts.append(_blank_part(run.string[start : min(cut, end)]))
        start = min(cut, end)
    return "".join(parts)


def _blank_part(part: str) -> str:
    """Replace the middle of a run, between whole entities."""
    if len(part) <= 4 * KEPT:
        return part
    head, tail = part.find(";", KEPT) + 1 or KEPT, part.find(";", len(part) - KEPT) + 1
    tail = tail or len(part) - KEPT
    middle = part[head:tail]
    if _HARD_SPACE.search(middle):  # they decide on the encoding of a segment
        return part
    middle = (" " if _SPACE.search(middle) else "\0") * len(middle)
    return part[:head] + middle + part[tail:]


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
    longest, size = _longest_segment(), min(size, len(text))
    end = text.rfind("\n", 0, size) + 1  # a segment begins after each line
    while end < size:
        line = text.find("\n", end, end + longest) + 1
        end = line or min(end + longest, len(text))
    return end


def _longest_segment() -> int:
    import ftfy  # takes 30 ms, and most texts are short

    return ftfy.TextFixerConfig().max_decode_length
