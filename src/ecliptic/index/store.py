"""`Store`: vectors with ids and columns that can be searched; the face of every engine.

All that does not depend on the engine is here: checks of what comes in, and the order of what goes
out. N rows, E vector size, Q queries, K hits.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecliptic.checks import check_count, check_range
from ecliptic.errors import ConfigError, did_you_mean
from ecliptic.index.answers import (
    Hits,
    NearPairs,
    Repaired,
    SearchPlan,
    SearchResult,
    StoreProblem,
    Written,
)
from ecliptic.index.batches import RowBatch, check_ids, check_queries, check_rows_to_store
from ecliptic.index.columns import ID
from ecliptic.index.filters.parsing import parse_filter
from ecliptic.index.filters.tree import Filter, check_filter
from ecliptic.index.requests import ReadRequest, SearchRequest
from ecliptic.index.schema import RowBlock, StoreRow, StoreSchema

if TYPE_CHECKING:
    from ecliptic.index.formats.writing import WrittenVectors

MOST_HITS = 100_000  # of one query


class Store(ABC):
    """Vectors with ids and columns.

    A method reads the newest state, also of other processes. Threads may share a store; a forked
    process may not use it, so start processes by the method `spawn`.
    """

    schema: StoreSchema

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most engines have nothing to close
        """Give back what the store holds; it cannot be used after this."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    def upsert(
        self,
        ids: Sequence[str],
        vectors: ArrayLike,
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> Written:
        """Add rows, and replace those whose id is there. On return they are on the disk.

        Args:
            ids: N strings.
            vectors: (N, E); stored with unit length.
            columns: N values each; a column that is not given is missing in these rows, also in
                rows that are replaced.

        Returns:
            the counts, and the rows that cannot be stored: vectors of zeros or with NaN or
            infinity, values of another type.

        Raises:
            ShapeError: the lengths differ, or E is not that of the store.
            StorageError: an unknown column, or the rows cannot be written. All or none of them
                are there then, and it is safe to repeat the call.
        """
        schema = self.schema
        found = check_rows_to_store(ids, vectors, columns or {}, schema.width, schema.columns)
        replaced = self._write(found.batch) if len(found.batch) else 0
        added = len(found.batch) - replaced
        return Written(added, replaced, found.repeated, found.refused)

    def delete(self, ids: Sequence[str] | None = None, where: Filter | str | None = None) -> int:
        """Delete the rows with these ids, or those that pass a filter.

        Returns:
            the number of rows deleted; ids that are not there are no error.

        Raises:
            ConfigError: both or none of the two are given, or ids that are no strings.
            FilterError: as for `search`.
        """
        if (ids is None) == (where is None):
            raise ConfigError("delete needs either ids or where.")
        if ids is not None:
            given = check_ids(ids)
            return self._delete_ids(given) if given else 0
        return self._delete_where(self.read_filter(where))

    def search(
        self,
        vectors: ArrayLike,
        k: int = 10,
        where: Filter | str | None = None,
        columns: Sequence[str] = (),
        *,
        exact: bool = False,
    ) -> SearchResult:
        """The rows nearest to each query, by cosine.

        Args:
            vectors: (Q, E), or (E,) of one query; of any length.
            k: hits for each query, at most 100,000.
            where: only rows that pass this filter, a tree or a text as `parse_filter` reads it.
            columns: to give with the hits.
            exact: compute the exact score of every row, where the engine has a quicker way.

        Raises:
            ShapeError, InputError: queries of another width, of zeros, or not finite.
            ConfigError: a `k` beyond the limit, or an unknown column.
            FilterError: a filter that cannot be read, or with unknown columns.
        """
        queries = check_queries(vectors, self.schema.width)
        if check_count("k", k) > MOST_HITS:
            raise ConfigError(f"k must be at most {MOST_HITS}, got {k}.")
        tree = None if where is None else self.read_filter(where)
        return self._search(SearchRequest(queries, k, tree, self._check_names(columns), exact))

    def _with_columns(
        self, hits: Sequence[Hits], plan: SearchPlan, columns: tuple[str, ...]
    ) -> SearchResult:
        """The answer with columns of the hits, for engines that read rows by their ids."""
        if not columns:
            return SearchResult(tuple(hits), plan)
        ids = tuple(dict.fromkeys(id_ for one in hits for id_ in one.ids))
        blocks = self._read(ReadRequest(ids, None, columns, vectors=False)) if ids else ()
        rows = {str(row[ID]): row for block in blocks for row in block.rows()}
        empty: StoreRow = dict.fromkeys(columns)  # of a row that was deleted meanwhile
        filled = []
        for one in hits:
            own = [rows.get(id_, empty) for id_ in one.ids]
            values = {name: [row[name] for row in own] for name in columns}
            filled.append(Hits(one.ids, one.scores, values))
        return SearchResult(tuple(filled), plan)

    def near_pairs(
        self, threshold: float, where: Filter | str | None = None, without: Collection[str] = ()
    ) -> Iterator[NearPairs]:
        """All pairs of rows with a cosine of at least `threshold`, each once, in blocks.

        Args:
            threshold: above 0 and at most 1.
            where: only pairs of rows that pass this filter.
            without: ids of rows to leave out.

        Raises:
            ConfigError: the threshold is out of its range.
            FilterError: as for `search`.
        """
        check_range("threshold", threshold, 0.0, 1.0, above=True)
        tree = None if where is None else self.read_filter(where)
        return self._near_pairs(threshold, tree, frozenset(without))

    def _near_pairs(
        self, threshold: float, tree: Filter | None, without: frozenset[str]
    ) -> Iterator[NearPairs]:
        """Search for each row; an engine may have a quicker way."""
        for block in self._read(ReadRequest(None, tree, (), vectors=True)):
            for id_, vector in zip(block.ids, block.vectors, strict=True):  # type: ignore[arg-type]
                if id_ in without:
                    continue
                hits = self._search_above(vector, threshold, tree)
                numbered = enumerate(hits.ids)
                keep = [place for place, other in numbered if other > id_ and other not in without]
                if keep:
                    others = tuple(hits.ids[place] for place in keep)
                    yield NearPairs((id_,) * len(keep), others, hits.scores[keep])

    def _search_above(
        self, vector: NDArray[np.float32], threshold: float, tree: Filter | None
    ) -> Hits:
        """All rows with a cosine of at least `threshold`."""
        k = 64
        while True:
            hits = self.search(vector, k, tree).hits[0]
            enough = int((hits.scores >= np.float32(threshold)).sum())
            if enough < k or k >= MOST_HITS:
                return Hits(hits.ids[:enough], hits.scores[:enough])
            k = min(8 * k, MOST_HITS)

    def read(
        self,
        ids: Sequence[str] | None = None,
        where: Filter | str | None = None,
        columns: Sequence[str] | None = None,
        *,
        vectors: bool = False,
    ) -> Iterator[RowBlock]:
        """Rows in blocks, in no order that means something; ids that are not there are left out.

        Args:
            ids: only these; None for all.
            where: only rows that pass this filter.
            columns: of the blocks; None for all.
            vectors: read the vectors too.

        Raises:
            ConfigError: an unknown column, both ids and where, or ids that are no strings.
            FilterError: as for `search`.
        """
        if ids is not None and where is not None:
            raise ConfigError("read takes ids or where, not both.")
        names = tuple(self.schema.columns) if columns is None else self._check_names(columns)
        tree = None if where is None else self.read_filter(where)
        given = None if ids is None else check_ids(ids)
        return self._read(ReadRequest(given, tree, names, vectors))

    def _check_names(self, columns: Sequence[str]) -> tuple[str, ...]:
        known = self.schema.columns
        for name in columns:
            if name not in known:
                near = did_you_mean(name, known) or f"its columns are {', '.join(known)}."
                raise ConfigError(f"the store has no column {name!r}; {near}")
        return tuple(dict.fromkeys(columns))

    def read_filter(self, where: Filter | str | None) -> Filter:
        """The tree of a filter, with values of the columns' types."""
        if isinstance(where, str):
            return parse_filter(where, self.schema.columns)
        return check_filter(where, self.schema.columns)  # type: ignore[arg-type] # it refuses others

    def export(
        self,
        path: str | os.PathLike[str],
        where: Filter | str | None = None,
        *,
        overwrite: bool = False,
    ) -> "WrittenVectors":
        """Write ids, vectors and columns as .parquet, .npy, .index (FAISS) or .usearch.

        Raises:
            StorageError: the file exists, has another suffix, or cannot be written.
        """
        from ecliptic.index.formats.writing import write_vectors  # the other tools wait until here

        blocks = self.read(where=where, vectors=True)
        return write_vectors(Path(path), blocks, self.schema, overwrite=overwrite)

    @abstractmethod
    def check(self, *, deep: bool = False) -> list[StoreProblem]:
        """What is wrong with the files; empty when the store is sound.

        Args:
            deep: read every byte and compare checksums; otherwise names and sizes.
        """

    @abstractmethod
    def repair(self, *, drop: bool = False) -> Repaired:
        """Mend what `check` finds, and say what was lost.

        Args:
            drop: remove rows whose data is damaged, which cannot be mended.
        """

    @abstractmethod
    def compact(self, *, now: bool = False) -> None:
        """Join small files and remove what no reader needs.

        Args:
            now: remove old versions at once. Otherwise those of the last hour stay, because a
                long read of another process may still use them.
        """

    @abstractmethod
    def _write(self, batch: RowBatch) -> int:
        """Store the rows; returns how many were replaced."""

    @abstractmethod
    def _delete_ids(self, ids: tuple[str, ...]) -> int: ...

    @abstractmethod
    def _delete_where(self, tree: Filter) -> int: ...

    @abstractmethod
    def _search(self, wanted: SearchRequest) -> SearchResult: ...

    @abstractmethod
    def _read(self, wanted: ReadRequest) -> Iterator[RowBlock]: ...
