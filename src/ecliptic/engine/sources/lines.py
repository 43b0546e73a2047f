"""Reads the lines of text files and of standard input, never more than a limit at once.

Bytes that are not UTF-8 become lone surrogates: file names need them, texts are refused for them.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

from ecliptic.errors import InputError, StorageError
from ecliptic.storage import open_regular

STDIN = "-"  # the name of standard input
LONGEST_LINE = 1 << 23  # characters, 8,388,608; a longer one is rejected
ENDLESS = 1 << 28  # characters, 268,435,456; what goes on without an end of line is no text file
MOST_TOGETHER = 1 << 26  # characters, 67,108,864, of texts that are held in memory together
_INSTEAD = "pipe a command's output into standard input, and name that -"


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open a UTF-8 file for reading, without its byte order mark; "-" is standard input.

    Raises:
        StorageError: it is missing or may not be read, or is a folder, pipe, device or socket.
    """
    stdin = os.fspath(path) == STDIN
    file = sys.stdin.buffer if stdin else _open(path)
    wrapper = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    try:
        yield wrapper
    finally:
        wrapper.detach()  # leave standard input itself open
        if not stdin:
            file.close()


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open_regular(path, StorageError, instead=_INSTEAD)
    except FileNotFoundError:
        raise StorageError(f"there is no file {os.fspath(path)}; check the path.") from None
    except OSError as error:
        raise StorageError(f"{os.fspath(path)} cannot be read: {error.strerror}.") from None


def split_lines(file: TextIO) -> Iterator[str | None]:
    """Every line of `file` with its end; None for one of more than `LONGEST_LINE` characters.

    Raises:
        StorageError: no line ends within `ENDLESS` characters.
    """
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        skipped = len(line)
        while line and line[-1] not in "\r\n":
            line = file.readline(LONGEST_LINE)
            skipped += len(line)
            if skipped > ENDLESS:
                raise StorageError(
                    f"a line has no end within {ENDLESS} characters; pass a file with one text, "
                    "path or row per line."
                )
        yield None


def stream_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str | InputError]]:
    """(number from 1, line without its end) of every line that is not blank.

    A line of more than `LONGEST_LINE` characters is an error in its place, and the next follow.
    """
    with open_text(path) as file:
        for number, line in enumerate(split_lines(file), start=1):
            if line is None:
                yield number, InputError(f"line {number} has more than {LONGEST_LINE} characters.")
            elif line.strip():
                yield number, line.rstrip("\r\n")


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """The same for texts that are held in memory together.

    Raises:
        InputError: a line of more than `LONGEST_LINE` characters.
        StorageError: more than `MOST_TOGETHER` characters, or not a regular file.
    """
    total = 0
    for number, line in stream_lines(path):
        if isinstance(line, InputError):
            raise line
        total += len(line)
        if total > MOST_TOGETHER:
            raise StorageError(
                f"{os.fspath(path)} has more than {MOST_TOGETHER} characters, too many to hold in "
                "memory together; split it."
            )
        yield number, line
