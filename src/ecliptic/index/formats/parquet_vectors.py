"""Reads Parquet files that have vectors in a column, as lists of floats."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import StorageError
from ecliptic.index.columns import VECTOR
from ecliptic.index.formats.row_tables import INSTEAD, RowTable, open_table, read_batches
from ecliptic.index.formats.source import VectorSource, as_float32
from ecliptic.index.schema import WIDEST, RowBlock
from ecliptic.storage import import_parquet, open_parquet


def open_parquet_vectors(
    path: Path, id_column: str | None, wanted: Sequence[str] | None
) -> VectorSource:
    """The rows of a Parquet file; vectors are in `vector`, or in its only column of floats.

    Without a column of ids, a row has its number. A vector that is null becomes NaN.

    Raises:
        StorageError: the file cannot be read, or has no column of vectors, or several.
        MissingExtraError: pyarrow is not installed.
    """
    pa, file = open_parquet(path, INSTEAD)
    column = _find_vectors(pa, path, file.schema_arrow)
    table = open_table([path], id_column, wanted, [column])
    width = _find_width(pa, path, column, file.schema_arrow.field(column).type)
    notes = list(table.columns.notes)
    if column != VECTOR:
        notes.append(f"the vectors are in the column {column!r}.")
    if table.id is None:
        notes.append("there is no column of ids, so the ids are the numbers of the rows.")
    return VectorSource(
        kind="parquet",
        rows=table.rows[path],
        width=width,
        columns=table.columns.types,
        blocks=partial(_read, path, table, column, width),
        notes=tuple(notes),
        facts=table.facts,
    )


def _find_vectors(pa: Any, path: Path, schema: Any) -> str:
    found = [field.name for field in schema if _is_list(pa, field.type)]
    if VECTOR in found:
        return VECTOR
    if len(found) != 1:
        several = f"has several columns of floats ({', '.join(found)})"
        what = several if found else f"has no column of lists of floats: {', '.join(schema.names)}"
        raise StorageError(
            f"{path} {what}, so nothing tells where the vectors are; name their column {VECTOR!r}."
        )
    return str(found[0])


def _is_list(pa: Any, kind: Any) -> bool:
    types = pa.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists and types.is_floating(kind.value_type))


def _find_width(pa: Any, path: Path, column: str, kind: Any) -> int:
    """E: stated by the type, or that of the first vector."""
    width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
    for batch in read_batches(path, [column]) if width is None else ():
        first = batch[column].drop_null()
        if len(first):
            width = len(first[0])
            break
    if width is None or not 1 <= width <= WIDEST:
        what = "no vectors, so their width is unknown" if width is None else f"{width} values each"
        raise StorageError(
            f"the column {column!r} of {path} has {what}; a store takes vectors of 1 to {WIDEST} "
            "values."
        )
    return int(width)


def _read(path: Path, table: RowTable, column: str, width: int) -> Iterator[RowBlock]:
    pa, _ = import_parquet(INSTEAD)
    start = 0
    for batch in read_batches(path, [*table.names(), column]):
        ids, columns = table.name(pa, path, batch)
        stop = start + batch.num_rows
        names = tuple(map(str, range(start, stop))) if ids is None else ids
        yield RowBlock(names, columns, _vectors(path, batch[column], width, start))
        start = stop
    if start != table.rows[path]:
        raise StorageError(
            f"{path} has {start} rows, but told of {table.rows[path]}; it was changed while it was "
            "read, or is damaged. Write it again."
        )


def _vectors(path: Path, array: Any, width: int, start: int) -> NDArray[np.float32]:
    """(N, E) of a column of lists; null becomes NaN."""
    there = array.is_valid().to_numpy(zero_copy_only=False)
    lists = array.drop_null()
    if odd := [row for row, one in enumerate(_lengths(lists)) if one != width]:
        row = start + int(np.flatnonzero(there)[odd[0]])
        raise StorageError(
            f"row {row} of {path} has a vector of {len(lists[odd[0]])} values, but the first one "
            f"has {width}; all vectors of a store have one width."
        )
    rows = np.full((len(array), width), np.nan, np.float32)
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    rows[there] = as_float32(flat.reshape(len(lists), width))
    return rows


def _lengths(lists: Any) -> Any:
    return lists.value_lengths().to_pylist()
