"""`LanceStore`: a store in a folder.

photos.store/
  store.json         width, columns and facts; written once
  table.lance/       the table of record
  checksums.jsonl    of its files
  writer.lock
  codes/             int8 codes, made again when they are missing
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.index.answers import NearPairs, Repaired, SearchResult, StoreProblem
from ecliptic.index.batches import RowBatch
from ecliptic.index.codes.files import damaged_codes, remove_codes
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.filters.tree import Filter
from ecliptic.index.lance.checking import find_problems, repair_table
from ecliptic.index.lance.conversion import arrow_schema, to_arrow, to_block
from ecliptic.index.lance.pairs import near_pairs
from ecliptic.index.lance.searching import search_view
from ecliptic.index.lance.table import LanceTable
from ecliptic.index.lance.view import View
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.index.store import Store
from ecliptic.storage import make_folder, read_json, replace_file, text_writer

ABOUT = "store.json"
_FORMAT = 1  # increased when older versions cannot read the new stores
_CODES = "codes"
_AT_ONCE = 4096  # rows of a block


class LanceStore(Store):
    """A store in a folder, safe from killed writers; several processes may use it."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`; `create` makes one."""
        self.folder = folder
        self.schema = _read_schema(folder)
        self._table = LanceTable(folder)
        self._seen: View | None = None

    @classmethod
    def create(cls, folder: Path, schema: StoreSchema) -> "LanceStore":
        """Make an empty store in a folder that is new or empty.

        Raises:
            StorageError: there is something in the folder, or it cannot be written.
        """
        make_folder(folder)
        if (folder / ABOUT).exists():
            raise StorageError(f"{folder} is a store already; open it.")
        about = {"format": _FORMAT, "width": schema.width, "columns": dict(schema.columns)}
        about["facts"] = dict(schema.facts)
        LanceTable.create(folder, arrow_schema(schema))
        # last, because a folder without it is no store
        replace_file(folder / ABOUT, text_writer(json.dumps(about, indent=1) + "\n"))
        return cls(folder)

    def __len__(self) -> int:
        return len(self._table)

    def _view(self, dataset: Any) -> View:
        if self._seen is None or self._seen.version != dataset.version:
            codes = self.folder / _CODES
            self._seen = View(dataset, self.schema.columns, codes, self._seen)
        return self._seen

    def _write(self, batch: RowBatch) -> int:
        return self._table.upsert(to_arrow(batch, self.schema))

    def _delete_ids(self, ids: tuple[str, ...]) -> int:
        import pyarrow as pa

        return self._table.delete(pa.array(ids, pa.string()))

    def _delete_where(self, tree: Filter) -> int:
        def find(dataset: Any) -> tuple[str, ...]:
            view = self._view(dataset)
            positions = np.flatnonzero(view.mask(tree))
            return tuple(view.take(positions, [])[ID].to_pylist()) if len(positions) else ()

        ids = self._table.reading(find)
        return self._delete_ids(ids) if ids else 0

    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        tree: Filter | None,
        columns: tuple[str, ...],
        *,
        exact: bool,
    ) -> SearchResult:
        return self._table.reading(
            lambda dataset: search_view(self._view(dataset), queries, k, tree, columns, exact=exact)
        )

    def _near_pairs(
        self, threshold: float, tree: Filter | None, without: frozenset[str]
    ) -> Iterator[NearPairs]:
        view = self._view(self._table.newest())
        mask = np.ones(view.rows, np.bool_) if tree is None else view.mask(tree)
        if without:
            mask = mask & ~view.mask_of_ids(tuple(without))
        yield from near_pairs(view, threshold, mask)

    def _read(
        self,
        ids: tuple[str, ...] | None,
        tree: Filter | None,
        columns: tuple[str, ...],
        *,
        vectors: bool,
    ) -> Iterator[RowBlock]:
        names = [ID, *columns, *([VECTOR] if vectors else [])]
        if ids is None and tree is None:
            scanner = self._table.newest().scanner(columns=names, batch_size=_AT_ONCE)
            yield from map(to_block, scanner.to_batches())
            return
        view, positions = self._table.reading(lambda dataset: self._find(dataset, ids, tree))
        for start in range(0, len(positions), _AT_ONCE):
            yield to_block(view.take(positions[start : start + _AT_ONCE], names[1:]))

    def _find(
        self, dataset: Any, ids: tuple[str, ...] | None, tree: Filter | None
    ) -> tuple[View, NDArray[np.int64]]:
        """The positions of rows with these ids, or of those that pass a filter."""
        view = self._view(dataset)
        mask = view.mask_of_ids(ids) if ids is not None else view.mask(tree)  # type: ignore[arg-type]
        return view, np.flatnonzero(mask)

    def check(self, *, deep: bool = False) -> list[StoreProblem]:
        """What is wrong with the files; see `Store.check`."""
        return check_store(self.folder, deep=deep)

    def repair(self, *, drop: bool = False) -> Repaired:
        """Mend what `check` finds; see `Store.repair`."""
        done = repair_store(self.folder, drop=drop)
        self._seen = None
        return done

    def compact(self) -> None:
        """Join small files, and remove versions and codes that no reader needs."""
        self._table.compact()
        remove_codes(self.folder / _CODES, self._table.data_files())


def check_store(folder: Path, *, deep: bool = False) -> list[StoreProblem]:
    """What is wrong with a store or a table, also with one that does not open."""
    problems = find_problems(folder, deep=deep)
    if not deep or problems:
        return problems
    bad = damaged_codes(folder / _CODES, LanceTable(folder).data_files())
    fix = "it is damaged; `repair` removes it, and the next search makes it again."
    return [StoreProblem(f"{_CODES}/{path.name}", fix) for path in bad]


def repair_store(folder: Path, *, drop: bool = False) -> Repaired:
    """Mend a store or a table, also one that does not open; see `Store.repair`."""
    done = repair_table(folder, drop=drop)
    bad = damaged_codes(folder / _CODES, LanceTable(folder).data_files()) if not done.left else []
    for path in bad:
        path.unlink(missing_ok=True)
    if bad:
        removed = f"removed {len(bad)} damaged file(s) of codes; the next search makes them again"
        return Repaired((*done.actions, removed), done.lost, done.left)
    return done


def _read_schema(folder: Path) -> StoreSchema:
    path = folder / ABOUT
    if not path.is_file():
        raise StorageError(f"{folder} is no store: it has no {ABOUT}; check the path.")
    about = read_json(path)
    if about.get("format") != _FORMAT:
        raise StorageError(
            f"{folder} has format {about.get('format')!r}, this ecliptic reads {_FORMAT}; a newer "
            "version wrote it, so upgrade."
        )
    try:
        return StoreSchema(about["width"], about["columns"], about["facts"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFileError(f"{path} is damaged: {error}; restore it from a copy.") from None
