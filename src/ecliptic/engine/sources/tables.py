"""Reads tables of images or texts: CSV, TSV, JSON lines and Parquet, a row at a time.

In Parquet an image is a path, encoded bytes, or a struct of `bytes` and `path`, as Hugging Face
data sets have it; pyarrow reads it.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from ecliptic.engine.sources.items import Item, Kind, escape_surrogates, text_item
from ecliptic.engine.sources.lines import (
    LONGEST_LINE,
    STDIN,
    open_text,
    split_lines,
    stream_lines,
)
from ecliptic.errors import (
    InputError,
    MissingColumnError,
    StorageError,
    did_you_mean,
    printable,
)
from ecliptic.storage import open_parquet

_TOO_MANY = (
    "it has {} cells, but the header names {} columns; put a cell that holds the separator in "
    "quotes."
)
SEPARATORS = {".csv": ",", ".tsv": "\t"}
_OTHER_SEPARATORS = {";": "semicolons", ",": "commas", "\t": "tabs", "|": "bars"}
_UTF16 = ("\udcff\udcfe", "\udcfe\udcff")  # its byte order marks, read as UTF-8
TABLE_SUFFIXES = (*SEPARATORS, ".jsonl", ".parquet")
_AT_ONCE = 1024  # rows of Parquet


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read."""

    value: str = ""
    id: str | None = None  # the value itself unless given
    kind: Kind = "image"
    facts: tuple[str, ...] = ()  # columns that each item keeps beside


def is_table(path: str) -> bool:
    """Whether the suffix is that of a table, and `path` is no folder of such a name."""
    named = Path(path).suffix.lower() in TABLE_SUFFIXES
    return named and not os.path.isdir(path)  # noqa: PTH112 Path.is_dir fails on long names


def read_table(path: str, columns: Columns) -> Iterator[Item]:
    """One item per row; paths of images are relative to the table's folder.

    Raises:
        StorageError: the table cannot be read, or has no such column.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    names = [name for name in (columns.value, columns.id) if name is not None]
    for number, row in read_rows(path, list(dict.fromkeys([*names, *columns.facts]))):
        item = row_item(row, columns, Path(path).parent, name_row(path, number))
        if not (isinstance(item.value, str) and item.value) and columns.id is None:
            item = replace(item, archive=path)
        if columns.facts and isinstance(row, dict):
            there = [name for name in columns.facts if name in row]  # a row of JSON may lack some
            item = replace(item, facts={name: row[name] for name in there})
        yield item


def name_row(path: str, number: int) -> str:
    """The place of a row, for people: "pairs.csv, line 3", "pairs.parquet, row 3"."""
    what = "row" if Path(path).suffix.lower() == ".parquet" else "line"
    where = "standard input" if path == STDIN else escape_surrogates(path)
    return f"{where}, {what} {number}"


def read_rows(path: str, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(number from 1, values by column) of each row of a table, or what is wrong with the row.

    The number is that of the line of the file where the row begins; of Parquet, that of the row.

    A row of JSON may lack a column; the others have all of `names`, and may have more.

    Raises:
        StorageError: the table cannot be read, or has no such column.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path, names)
    if suffix in SEPARATORS:
        return _read_csv(path, SEPARATORS[suffix], names)
    return ((number, _parse_row(line)) for number, line in stream_lines(path))


def row_item(row: Any, columns: Columns, folder: Path, where: str) -> Item:
    """The item of a row of `read_rows`; `where` names it in messages."""
    if isinstance(row, str):  # an error message
        return Item(where, "", InputError(row))
    value: Any = row.get(columns.value)
    name = ""
    if columns.kind == "image" and isinstance(value, Mapping):  # of Hugging Face's data sets
        value, name = value.get("bytes") or value.get("path"), value.get("path") or ""
    encoded = isinstance(value, bytes) and columns.kind == "image"
    if not value or not (encoded or isinstance(value, str)):
        needed = "a text" if columns.kind == "text" else "the path or the bytes of an image"
        problem = f"nothing usable in column {columns.value!r}; it must hold {needed}."
        return Item(where, "", InputError(problem))
    if columns.kind == "text":
        item = text_item(value)
    elif encoded:
        item = Item(escape_surrogates(name) or where, value)
    else:
        item = Item(escape_surrogates(value), str(folder / value))
    id_ = row.get(columns.id) if columns.id else None
    return item if id_ is None else Item(escape_surrogates(str(id_)), item.value, item.error)


def _read_csv(
    path: str, separator: str, names: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    csv.field_size_limit(LONGEST_LINE)  # its own, 131,072, is too short for some captions
    with open_text(path) as file:
        reader = csv.reader(_refuse_long(path, file), delimiter=separator)
        try:
            header = next(reader, [])
            check_columns(path, header, names)
            start = reader.line_num + 1
            for cells in reader:
                if any(cells[len(header) :]):
                    yield start, _TOO_MANY.format(len(cells), len(header))
                elif cells:  # else the line is blank
                    missing = [None] * (len(header) - len(cells))
                    yield start, dict(zip(header, [*cells, *missing], strict=False))
                start = reader.line_num + 1
        except csv.Error as error:
            raise StorageError(f"{printable(path)}, line {reader.line_num}: {error}.") from None


def _refuse_long(path: str, file: TextIO) -> Iterator[str]:
    """The lines of a table, whose rows cannot be told apart after a line that is too long."""
    for number, line in enumerate(split_lines(file), start=1):
        if line is None:
            raise StorageError(
                f"{printable(path)}, line {number}: more than {LONGEST_LINE} characters."
            )
        yield line


def _read_parquet(path: str, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    pa, file = open_parquet(path, "a .csv")
    number = 0
    try:
        check_columns(path, file.schema_arrow.names, names)
        for batch in file.iter_batches(batch_size=_AT_ONCE, columns=list(names)):
            for row in _to_rows(batch):
                number += 1
                yield number, row
    except pa.ArrowException as error:
        raise StorageError(f"{printable(path)} cannot be read: {error}.") from None


def _to_rows(batch: Any) -> Iterable[dict[str, Any] | str]:
    """The rows of a batch of pyarrow; an error message for one with a value that Python lacks."""
    try:
        found: list[dict[str, Any]] = batch.to_pylist()
        return found
    except (ValueError, OverflowError):  # a text of no UTF-8, a time beyond the year 9999
        return [_to_row(batch, number) for number in range(batch.num_rows)]


def _to_row(batch: Any, number: int) -> dict[str, Any] | str:
    row: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            row[name] = batch.column(name)[number].as_py()
        except (ValueError, OverflowError) as error:
            return f"its {name} cannot be read: {error}."
    return row


def check_columns(
    path: str | os.PathLike[str], header: Sequence[str], names: Sequence[str]
) -> None:
    """Raise StorageError unless each of `names` is once in the header of the table `path`."""
    for name in names:
        if header.count(name) > 1:
            raise StorageError(
                f"{printable(path)} has the column {name!r} {header.count(name)} times; rename all "
                "but one."
            )
        if name not in header:
            _refuse_other_writing(path, header, name)
            known = ", ".join(header) or "none, the file is empty"
            near = did_you_mean(name, header)
            raise MissingColumnError(
                f"{printable(path)} has no column {name!r}; its columns: {known}"
                + (f"; {near}" if near else "."),
                header=header,
            )


def _refuse_other_writing(path: str | os.PathLike[str], header: Sequence[str], name: str) -> None:
    """Raise StorageError if a header lacks `name` because of its encoding or its separator."""
    first = header[0] if header else ""
    if first.startswith(_UTF16):
        raise StorageError(f"{printable(path)} is a text in UTF-16; save it as UTF-8.")
    for separator, what in _OTHER_SEPARATORS.items():
        if len(header) == 1 and name in (cell.strip('" ') for cell in first.split(separator)):
            raise StorageError(
                f"{printable(path)} separates its columns by {what}; save it with commas as .csv, "
                "or with tabs as .tsv."
            )


def _parse_row(line: str | InputError) -> dict[str, Any] | str:
    """The object in a line of JSON, or an error message."""
    if isinstance(line, InputError):
        return str(line)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}."
    return row if isinstance(row, dict) else "not a JSON object."
