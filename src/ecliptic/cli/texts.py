"""How commands are given texts: one by one, as a file with one a line, or on standard input."""

import os
from collections.abc import Iterator
from pathlib import Path

from ecliptic.engine import STDIN, read_lines


def text_or_file(text: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text): the lines of the file or of "-", or `text` itself as line 1."""
    if text == STDIN or os.path.isfile(text):  # noqa: PTH113 Path.is_file fails on long texts
        yield from read_lines(text)
    else:
        yield 1, text


def texts_of(texts: list[str] | None, file: Path | None) -> list[str]:
    """Texts given one by one, then those of a file with one a line."""
    return [*(texts or ()), *(line for _, line in (read_lines(file) if file else ()))]
