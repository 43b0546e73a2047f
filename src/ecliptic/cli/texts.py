"""Texts of a command: given one by one, in a file with one per line, or on stdin."""

import os
from collections.abc import Iterator
from pathlib import Path

from ecliptic.engine import STDIN, read_lines


def text_or_file(text: str) -> Iterator[tuple[int, str]]:
    """(line from 1, text) of each line of a file or of stdin ("-"), or `text` itself as line 1.

    A pipe or device is no text, so it is refused as a file.
    """
    if text == STDIN or is_file(text):
        yield from read_lines(text)
    else:
        yield 1, text


def is_file(text: str) -> bool:
    """Whether a text is the path of a file, pipe or device, but not of a folder."""
    return os.path.exists(text) and not os.path.isdir(text)  # noqa: PTH110, PTH112 Path fails on long ones


def texts_of(texts: list[str] | None, file: Path | None) -> list[str]:
    """`texts`, then the lines of `file`."""
    return [*(texts or ()), *(line for _, line in (read_lines(file) if file else ()))]
