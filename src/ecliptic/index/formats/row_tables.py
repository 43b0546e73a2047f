"""Parquet files that name the rows of vectors: their ids and columns, in the order of the vectors.

A table is one file, or several parts of one table, such as the `metadata_*.parquet` of
clip-retrieval.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecliptic.errors import MissingColumnError, StorageError, did_you_mean, printable
from ecliptic.index.columns import ID, ColumnValue
from ecliptic.index.formats.source import BLOCK, NamedRows
from ecliptic.index.formats.table_columns import (
    TableColumns,
    choose_columns,
    kind_of,
    merge_schemas,
    read_ids,
    read_values,
)
from ecliptic.storage import import_parquet, open_parquet

INSTEAD = ".npy files"  # of Parquet, in the message that pyarrow is missing
FACTS = b"ecliptic.store"  # in the metadata of a Parquet file: JSON, texts by name
_USUAL_IDS = (ID, "image_path")  # the columns of ids, unless the caller names one


@dataclass(frozen=True)
class RowTable:
    """Files with the ids and columns of rows."""

    rows: Mapping[Path, int]  # of each part
    id: str | None  # the column of ids; None: the rows have none
    columns: TableColumns
    facts: Mapping[str, str]  # of the first part

    def read(self, part: Path) -> Iterator[NamedRows]:
        """The rows of a part, at most `BLOCK` at a time."""
        pa, _ = import_parquet(INSTEAD)
        for batch in read_batches(part, self.names()):
            yield *self.name(pa, part, batch), batch.num_rows

    def names(self) -> list[str]:
        """The columns in the files that are read."""
        return [*([self.id] if self.id else []), *self.columns.origins.values()]

    def name(
        self, pa: Any, part: Path, batch: Any
    ) -> tuple[tuple[str, ...] | None, dict[str, list[ColumnValue | None]]]:
        """The ids and the columns in a batch; a column that this part lacks is missing."""
        ids = read_ids(pa, part, self.id, batch[self.id]) if self.id else None
        values: dict[str, list[ColumnValue | None]] = {}
        for name, kind in self.columns.types.items():
            origin = self.columns.origins[name]
            if origin in batch.schema.names:
                values[name] = read_values(pa, part, origin, batch[origin], kind)
            else:
                values[name] = [None] * batch.num_rows
        return ids, values


def open_table(
    parts: Sequence[Path],
    id_column: str | None,
    wanted: Sequence[str] | None,
    vectors: Sequence[str] = (),
) -> RowTable:
    """Read what the footers of the parts tell.

    Args:
        parts: the files, in order.
        id_column: the column of ids; None for `id` or `image_path`, if there is one.
        wanted: the columns to read; None for all that a store has types for.
        vectors: columns that are neither.

    Raises:
        StorageError: a part cannot be read, or its columns do not fit.
        MissingExtraError: pyarrow is not installed.
    """
    pa, _ = import_parquet(INSTEAD)
    files = {part: open_parquet(part, INSTEAD)[1] for part in parts}
    schemas = {part: file.schema_arrow for part, file in files.items()}
    where = f"{parts[0]}" + (" and the files beside it" if len(parts) > 1 else "")
    found = _find_ids(pa, schemas, id_column)
    if wanted is not None and found in wanted:
        raise StorageError(
            f"the column {found!r} of {where} is read as the ids, so it cannot be a column too; "
            "leave it out of the columns, or name another column of ids."
        )
    skipped = {*vectors, *([found] if found else [])}
    if wanted is not None:  # others may have any types
        skipped |= {name for schema in schemas.values() for name in schema.names} - {*wanted}
    columns = choose_columns(where, merge_schemas(pa, schemas, skipped), wanted)
    rows = {part: file.metadata.num_rows for part, file in files.items()}
    return RowTable(rows, found, columns, read_facts(parts[0], schemas[parts[0]].metadata or {}))


def _find_ids(pa: Any, schemas: Mapping[Path, Any], wanted: str | None) -> str | None:
    """The column of ids, which all parts must have, as texts or whole numbers."""
    first = next(iter(schemas.values()))
    usual = (
        name for name in _USUAL_IDS if name in first.names and _names(pa, first.field(name).type)
    )
    found = wanted or next(usual, None)
    for path, schema in schemas.items():
        if found is None:
            break
        if found not in schema.names:
            near = did_you_mean(found, schema.names) or f"its columns: {', '.join(schema.names)}."
            raise MissingColumnError(
                f"{path} has no column {found!r} of ids; {near}", header=schema.names
            )
        if schema.names.count(found) == 1 and not _names(pa, schema.field(found).type):
            raise StorageError(
                f"the column {found!r} of {path} is {schema.field(found).type}, but ids are texts "
                "or whole numbers; name another column of ids."
            )
    return found


def _names(pa: Any, kind: Any) -> bool:
    return kind_of(pa, kind) in ("string", "int")


def read_batches(path: Path, names: Sequence[str]) -> Iterator[Any]:
    """Batches of at most `BLOCK` rows with those of the columns `names` that the file has.

    Raises:
        StorageError: the file is damaged.
    """
    pa, file = open_parquet(path, INSTEAD)
    known = file.schema_arrow.names
    try:
        yield from file.iter_batches(BLOCK, columns=[name for name in names if name in known])
    except (pa.ArrowException, OSError) as error:
        raise StorageError(
            f"{path} cannot be read: {printable(str(error))[:300]}; write it again."
        ) from None


def read_facts(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    """The facts that `write_vectors` put into a Parquet file; none in files of others.

    Raises:
        StorageError: they are damaged.
    """
    if FACTS not in metadata:
        return {}
    try:
        facts = json.loads(metadata[FACTS])
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or not all(isinstance(v, str) for v in facts.values()):
        raise StorageError(f"the facts in the metadata of {path} are damaged; write it again.")
    return facts
