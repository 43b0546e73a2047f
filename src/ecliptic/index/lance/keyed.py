"""`KeyedTable`: rows with an id and columns but without vectors, in a folder of their own."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ecliptic.index.answers import Repaired, StoreProblem
from ecliptic.index.columns import ID, arrow_type
from ecliptic.index.lance.checking import find_problems, repair_table
from ecliptic.index.lance.table import KEPT, KEY, LanceTable, manifests

_AT_ONCE = 4096  # rows that are read together
BYTES = "bytes"  # a type beside those of a store's columns


class KeyedTable:
    """A table that is on the disk when a call returns; see `LanceTable`."""

    def __init__(self, folder: Path, columns: Mapping[str, str]) -> None:
        """Open the table in `folder`, or make it.

        Args:
            folder: of the table.
            columns: names and types, as of a store, or "bytes".
        """
        self.folder, self._columns = folder, dict(columns)
        if manifests(folder):  # else its maker was killed
            self._table = LanceTable(folder)
        else:
            self._table = LanceTable.create(folder, self._schema())

    def _schema(self) -> Any:
        import pyarrow as pa

        fields = [pa.field(ID, pa.string(), nullable=False, metadata=KEY)]
        for name, kind in self._columns.items():
            fields.append(pa.field(name, pa.binary() if kind == BYTES else arrow_type(kind)))
        return pa.schema(fields)

    def __len__(self) -> int:
        return len(self._table)

    def upsert(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows of different ids, and replace those that are there.

        Raises:
            StorageError: they cannot be written.
        """
        import pyarrow as pa

        schema = self._schema()
        values = {ID: list(ids), **{name: list(columns[name]) for name in self._columns}}
        self._table.upsert(pa.table(values, schema=schema))
        self._table.join_if_many()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete rows by their ids; returns how many were there."""
        import pyarrow as pa

        deleted = self._table.delete(lambda: pa.array(ids, pa.string()))
        self._table.join_if_many()
        return deleted

    def find(self, ids: Sequence[str]) -> set[str]:
        """Those of these ids that are there."""
        return set(self._select(ids, [ID]))

    def get(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The rows with these ids, by id; those that are not there are left out."""
        return self._select(ids, [ID, *self._columns])

    def _select(self, ids: Sequence[str], columns: list[str]) -> dict[str, dict[str, Any]]:
        import pyarrow.compute as pc

        if not ids:
            return {}
        wanted = pc.field(ID).isin(list(ids))
        table = self._table.reading(lambda dataset: dataset.to_table(columns, filter=wanted))
        return {row[ID]: row for row in table.to_pylist()}

    def ids(self) -> list[str]:
        """All ids, in no order that means something."""
        table = self._table.reading(lambda dataset: dataset.to_table([ID]))
        found: list[str] = table[ID].to_pylist()
        return found

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, in no order that means something."""
        scanner = self._table.newest().scanner(batch_size=_AT_ONCE)
        for batch in scanner.to_batches():
            yield from batch.to_pylist()

    def check(self, *, deep: bool = False) -> list[StoreProblem]:
        """What is wrong with the files; see `Store.check`."""
        return find_problems(self.folder, deep=deep)

    def repair(self, *, drop: bool = False) -> Repaired:
        """Mend what `check` finds; see `Store.repair`."""
        done = repair_table(self.folder, drop=drop)
        self._table = LanceTable(self.folder)
        return done

    def compact(self, *, now: bool = False) -> None:
        """Join small files and remove versions that no reader needs; see `Store.compact`."""
        self._table.compact(timedelta(0) if now else KEPT)
