"""`MemoryStore`: rows in memory, every operation in its plainest form.

It is what the other engines are tested against, and serves what need not be kept.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.answers import (
    Repaired,
    SearchPlan,
    SearchResult,
    StoreProblem,
    best,
    exact_scores,
)
from ecliptic.index.batches import RowBatch
from ecliptic.index.columns import ID, ColumnValue
from ecliptic.index.filters.matching import matches
from ecliptic.index.filters.tree import Filter
from ecliptic.index.requests import ReadRequest, SearchRequest
from ecliptic.index.schema import RowBlock, StoreRow, StoreSchema
from ecliptic.index.store import Store


class MemoryStore(Store):
    """A store that ends with its process."""

    def __init__(self, schema: StoreSchema) -> None:
        self.schema = schema
        self._rows: dict[str, StoreRow] = {}
        self._vectors: dict[str, NDArray[np.float32]] = {}  # (E,) each

    def __len__(self) -> int:
        return len(self._rows)

    def check(self, *, deep: bool = False) -> list[StoreProblem]:  # noqa: ARG002
        """Nothing: memory has no files."""
        return []

    def repair(self, *, drop: bool = False) -> Repaired:  # noqa: ARG002
        """Do nothing."""
        return Repaired((), 0)

    def compact(self, *, now: bool = False) -> None:
        """Do nothing."""

    def _write(self, batch: RowBatch) -> int:
        replaced = sum(id_ in self._rows for id_ in batch.ids)
        for place, id_ in enumerate(batch.ids):
            values = {name: column[place] for name, column in batch.columns.items()}
            self._rows[id_] = {ID: id_, **values}
            self._vectors[id_] = batch.vectors[place].copy()
        return replaced

    def _delete_ids(self, ids: tuple[str, ...]) -> int:
        there = [id_ for id_ in ids if id_ in self._rows]
        for id_ in there:
            del self._rows[id_], self._vectors[id_]
        return len(there)

    def _delete_where(self, tree: Filter) -> int:
        return self._delete_ids(self._passing(tree))

    def _passing(self, tree: Filter | None) -> tuple[str, ...]:
        rows = self._rows.items()
        return tuple(id_ for id_, row in rows if tree is None or matches(tree, row))

    def _search(self, wanted: SearchRequest) -> SearchResult:
        ids = self._passing(wanted.tree)
        matrix = self._matrix(ids)
        values = self._columns(ids, wanted.columns)
        hits = tuple(
            best(ids, exact_scores(matrix, query), wanted.k, values) for query in wanted.queries
        )
        return SearchResult(hits, SearchPlan("scan", len(ids), len(ids) * len(wanted.queries)))

    def _columns(
        self, ids: tuple[str, ...], names: tuple[str, ...]
    ) -> dict[str, list[ColumnValue | None]]:
        return {name: [self._rows[id_][name] for id_ in ids] for name in names}

    def _matrix(self, ids: tuple[str, ...]) -> NDArray[np.float32]:
        shape = (len(ids), self.schema.width)
        return np.array([self._vectors[id_] for id_ in ids], dtype=np.float32).reshape(shape)

    def _read(self, wanted: ReadRequest) -> Iterator[RowBlock]:
        names = (
            self._passing(wanted.tree)
            if wanted.ids is None
            else tuple(i for i in wanted.ids if i in self._rows)
        )
        yield RowBlock(
            names,
            self._columns(names, wanted.columns),
            self._matrix(names) if wanted.vectors else None,
        )
