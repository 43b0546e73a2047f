"""Reads the lines of text files and of standard input.

Bytes that are not UTF-8 become lone surrogates: file names need them, texts are refused for them.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ecliptic.storage import check_path

STDIN = "-"  # the name of standard input


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a UTF-8 file for reading, without its byte order mark; "-" is standard input."""
    options = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
    if os.fspath(path) != STDIN:
        check_path(path)
        with Path(path).open(**options) as file:  # type: ignore[call-overload]
            yield file
        return
    wrapper = io.TextIOWrapper(sys.stdin.buffer, **options)  # type: ignore[arg-type]
    try:
        yield wrapper
    finally:
        wrapper.detach()  # leave standard input itself open


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of every line that is not blank."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")
