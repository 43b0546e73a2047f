"""The ids and columns of rows whose vectors stand in a file without any: `.npy`, or a FAISS index.

They stand in a Parquet file beside it, as `write_vectors` writes it, or in a file that the caller
names: Parquet, or a JSON list of texts. One row, or text, for each vector, in order.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ecliptic.errors import StorageError
from ecliptic.index.columns import ColumnType
from ecliptic.index.formats.row_tables import open_table
from ecliptic.index.formats.source import BLOCK, NamedRows, without_names
from ecliptic.storage import limit_sidecar, parse_flat_json, read_regular


@dataclass(frozen=True)
class RowNames:
    """What is known of the rows beside their vectors."""

    read: Callable[[], Iterator[NamedRows]]
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    given: bool = True  # whether there are any


def table_beside(path: Path) -> Path:
    """The Parquet file with the ids and columns of the vectors in `path`."""
    return Path(f"{path}.parquet")


def find_names(
    path: Path, rows: int, names: Path | None, id_column: str | None, wanted: Sequence[str] | None
) -> RowNames:
    """The names of the rows of a file.

    Args:
        path: the file of vectors.
        rows: N.
        names: a file with the names; None for the one beside `path`, if there is one.
        id_column: the column of ids in it.
        wanted: the columns to read; None for all.

    Raises:
        StorageError: the names cannot be read, or are not N.
    """
    notes = []
    if names is None and table_beside(path).exists():
        names = table_beside(path)
        notes.append(f"ids and columns are those of {names.name}.")
    if names is None or names.suffix.lower() == ".json":
        if id_column is not None or wanted is not None:
            raise StorageError(
                f"{names or path} has no columns, so none can be named for ids or columns; leave "
                "them out, or pass names= with a Parquet file."
            )
        if names is None:
            return RowNames(partial(without_names, rows), given=False)
        ids = _read_list(names, rows)
        _check_count(path, rows, names, len(ids))
        return RowNames(partial(_slices, ids))
    if names.suffix.lower() != ".parquet":
        raise StorageError(
            f"names are read from .parquet, or .json with a list of texts, not from {names}; write "
            "them as one of these."
        )
    table = open_table([names], id_column, wanted)
    _check_count(path, rows, names, table.rows[names])
    if table.id is None:
        notes.append(f"{names.name} has no column of ids, so the ids are the numbers of the rows.")
    notes.extend(table.columns.notes)
    return RowNames(partial(table.read, names), table.columns.types, tuple(notes), table.facts)


def _check_count(path: Path, rows: int, names: Path, count: int) -> None:
    if count != rows:
        raise StorageError(
            f"{path} has {rows} vectors, but {names} names {count} rows, so nothing tells which "
            "name belongs to which vector; pass the names that were written with the vectors."
        )


def _read_list(path: Path, rows: int) -> list[str]:
    try:
        names = parse_flat_json(read_regular(path, limit_sidecar(rows)))
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{path} is not JSON ({error}); pass a list of texts.") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise StorageError(f"{path} is not a JSON list of texts, one for each vector; pass one.")
    return names


def _slices(ids: list[str]) -> Iterator[NamedRows]:
    for start in range(0, len(ids), BLOCK):
        part = tuple(ids[start : start + BLOCK])
        yield part, {}, len(part)
