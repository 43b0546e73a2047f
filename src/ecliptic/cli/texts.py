"""Texts of a command: given one by one, in a file with one per line, or on stdin."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from ecliptic.engine import STDIN, read_lines
from ecliptic.errors import StorageError

TEXT_SUFFIXES = (".txt", ".text", ".md", ".csv", ".tsv", ".json", ".jsonl", ".parquet", ".toml")


def text_or_file(text: str) -> Iterator[tuple[int, str]]:
    """(line from 1, text) of each line of a file or of stdin ("-"), or `text` itself as line 1.

    A pipe or device is no text, so it is refused as a file.
    """
    if text == STDIN or is_file(text):
        yield from read_lines(text)
    else:
        refuse_missing_file(text, instead="pipe it to standard input, and name that -")
        yield 1, text


def refuse_missing_file(text: str, instead: str) -> None:
    """Raise StorageError if `text` ends as the names of text files do, but is no file.

    Args:
        text: what the user gave; `is_file` is false for it.
        instead: how to give it as a text.
    """
    if "\n" not in text and text.lower().endswith(TEXT_SUFFIXES):
        raise StorageError(f"there is no file {text}; check the path. If it is a text, {instead}.")


def refuse_missing_files(paths: Iterable[str]) -> None:
    """Raise StorageError at the first of `paths` that is no file."""
    for path in paths:
        if not is_file(path):
            raise StorageError(f"there is no file {path}; check the path.")


def refuse_missing_paths(paths: Iterable[str]) -> None:
    """Raise StorageError at the first of `paths` that there is not; a glob may match nothing."""
    for path in paths:
        named = path != STDIN and not glob.has_magic(path)
        if named and not os.path.lexists(path):
            raise StorageError(f"there is no file or folder {path}; check the path.")


def is_file(text: str) -> bool:
    """Whether a text is the path of a file, pipe or device, but not of a folder."""
    return os.path.exists(text) and not os.path.isdir(text)  # noqa: PTH110, PTH112 Path fails on long ones


def read_list(given: str | None, file: Path | None, flag: str) -> list[str] | None:
    """The texts of `--flag a,b,c` or of the lines of `--flag-file FILE`; None if neither is given.

    Raises:
        BadParameter: both are given, or the first one names a file.
    """
    if given is not None and file is not None:
        raise typer.BadParameter(f"give either --{flag} a,b,c or --{flag}-file FILE.")
    if file is not None:
        return [line.strip() for _, line in read_lines(file)]
    if given is None:
        return None
    if is_file(given):
        raise typer.BadParameter(
            f"--{flag} {given} is a file; read its lines with --{flag}-file {given}, or write "
            f"{given!r} with a comma after it for a text of that name."
        )
    refuse_missing_file(given, instead="put a comma after it")
    return [text.strip() for text in given.split(",") if text.strip()]


def texts_of(texts: list[str] | None, file: Path | None) -> list[str]:
    """`texts`, then the lines of `file`."""
    return [*(texts or ()), *(line for _, line in (read_lines(file) if file else ()))]
