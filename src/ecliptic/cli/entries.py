"""What to embed: files, folders, tables and lines, one `Entry` each, read lazily and in order."""

import csv
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ecliptic.cli.lines import STDIN, lines_of, open_text
from ecliptic.cli.output import readable
from ecliptic.errors import InputError, StorageError

Kind = Literal["image", "text"]

PICTURES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
}  # in folders
TABLES = {".csv": ",", ".tsv": "\t", ".jsonl": None}  # suffix -> separator
_LONGEST_CELL = 2**27  # characters; csv's own limit of 131,072 is too short for some captions


@dataclass(frozen=True)
class Entry:
    """One picture or text, or what is wrong with it."""

    name: str  # for people, and the id of its vector
    value: str  # the text, or the picture's path
    problem: str = ""


@dataclass(frozen=True)
class Columns:
    """Where a table keeps what is embedded."""

    value: str = ""
    id: str | None = None  # the value itself unless given
    kind: Kind = "image"


def pictures(path: str) -> Iterator[Entry]:
    """The picture `path`, or all pictures below the folder `path`, sorted by name.

    Raises:
        InputError: a folder without pictures.
    """
    if not Path(path).is_dir():
        yield picture(path)
        return
    empty = True
    for folder, below, files in os.walk(path):
        below.sort()  # os.walk goes on in this order
        for file in sorted(files):
            if Path(file).suffix.lower() in PICTURES:
                empty = False
                yield picture(os.path.join(folder, file))  # noqa: PTH118 keeps "./" as given
    if empty:
        raise InputError(
            f"no pictures in {readable(path)}; known are {', '.join(sorted(PICTURES))}."
        )


def picture(path: str) -> Entry:
    """A picture that has not been looked at yet."""
    return Entry(readable(path), path)


def text(value: str) -> Entry:
    """A text; bytes that were not UTF-8, or half a character, are its problem."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return Entry(readable(value), value, "not valid UTF-8; save the text as UTF-8.")
    return Entry(value, value)


def lines(path: str, kind: Kind) -> Iterator[Entry]:
    """A picture's path or a text from each line that is not blank."""
    make = text if kind == "text" else picture
    return (make(line) for _, line in lines_of(path))


def is_table(path: str) -> bool:
    """Whether the suffix is that of a table."""
    return Path(path).suffix.lower() in TABLES


def table(path: str, columns: Columns) -> Iterator[Entry]:
    """One entry per row; pictures' paths count from the table's folder.

    Raises:
        StorageError: the table cannot be read, or has no such column.
    """
    separator = TABLES[Path(path).suffix.lower()]
    rows = _csv_rows(path, separator, columns) if separator else _json_rows(path)
    for number, row in rows:
        where = f"{readable(path)}, row {number}"
        value = row.get(columns.value) if isinstance(row, dict) else None
        if not isinstance(value, str) or not value:
            yield Entry(where, "", _complaint(row, columns.value))
            continue
        entry = _entry(value, columns.kind, Path(path).parent)
        id_ = row.get(columns.id) if columns.id else None
        yield entry if id_ is None else Entry(readable(str(id_)), entry.value, entry.problem)


def _entry(value: str, kind: Kind, folder: Path) -> Entry:
    if kind == "text":
        return text(value)
    return Entry(readable(value), str(folder / value))


def _complaint(row: Any, column: str) -> str:
    if not isinstance(row, dict):
        return str(row)
    return f"nothing usable in column {column!r}; it must hold a text that is not empty."


def _csv_rows(
    path: str, separator: str, columns: Columns
) -> Iterator[tuple[int, dict[str | Any, Any]]]:
    csv.field_size_limit(_LONGEST_CELL)
    with open_text(path) as file:
        reader = csv.DictReader(file, delimiter=separator)
        try:
            _check_header(path, reader.fieldnames or (), columns)
            yield from enumerate(reader, start=1)
        except csv.Error as error:
            raise StorageError(f"{readable(path)}, line {reader.line_num}: {error}.") from None


def _check_header(path: str, header: Sequence[str], columns: Columns) -> None:
    for name in (columns.value, columns.id):
        if name is not None and name not in header:
            known = ", ".join(header) or "none, the file is empty"
            raise StorageError(f"{readable(path)} has no column {name!r}; its columns: {known}.")


def _json_rows(path: str) -> Iterator[tuple[int, Any]]:
    """Rows as objects; what is no object is a complaint in words."""
    for number, line in lines_of(path):
        yield number, _json_row(line)


def _json_row(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}."
    return row if isinstance(row, dict) else "not a JSON object."


def gather(path: str, columns: Columns) -> Iterator[Entry]:
    """The entries of a picture, a folder, a table, or of stdin for "-"."""
    if path == STDIN:
        return lines(path, columns.kind)
    return table(path, columns) if is_table(path) else pictures(path)
