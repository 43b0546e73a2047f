"""`LanceStore`: a store in a folder.

photos.store/
  store.json         width, columns and facts; written once
  table.lance/       the table of record
  checksums.jsonl    of its files
  writer.lock
  codes/             int8 codes, made again when they are missing
"""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import CorruptFileError, StorageError, warn
from ecliptic.index.answers import NearPairs, Repaired, SearchResult, StoreProblem
from ecliptic.index.batches import RowBatch
from ecliptic.index.codes.files import damaged_codes, remove_codes
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.filters.tree import Filter
from ecliptic.index.lance.checking import find_problems, repair_table
from ecliptic.index.lance.conversion import (
    arrow_schema,
    describe_schema,
    schema_from,
    schema_in,
    to_arrow,
    to_block,
)
from ecliptic.index.lance.engine import explained, import_lance
from ecliptic.index.lance.pairs import near_pairs
from ecliptic.index.lance.searching import search_view
from ecliptic.index.lance.table import KEPT, LanceTable
from ecliptic.index.lance.view import View
from ecliptic.index.requests import ReadRequest, SearchRequest
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.index.store import Store
from ecliptic.storage import read_json, replace_file, text_writer

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
        """Make an empty store in a folder; other files in it are left alone.

        Raises:
            StorageError: there is a store in it, or it cannot be written.
        """
        about = folder / ABOUT
        import_lance()  # refuses where it is not installed, and pyarrow neither
        try:
            if about.exists():
                raise FileExistsError(about)
            LanceTable.create(folder, arrow_schema(schema))
            # last, because a folder without it is no store
            replace_file(about, text_writer(_describe(schema)), exclusive=True)
        except FileExistsError:
            raise StorageError(f"{folder} is a store already; open it.") from None
        return cls(folder)

    def __len__(self) -> int:
        return len(self._table)

    def _view(self, dataset: Any) -> View:
        if self._seen is None or self._seen.version != dataset.version:
            codes = self.folder / _CODES
            self._seen = View(dataset, self.schema.columns, codes, self._seen)
        return self._seen

    def _write(self, batch: RowBatch) -> int:
        replaced = self._table.upsert(to_arrow(batch, self.schema))
        self._tidy()
        return replaced

    def _tidy(self) -> None:
        """Keep the number of files small. The rows of the call are stored, so this may fail."""
        try:
            if self._table.join_if_many():
                self._remove_codes()
        except StorageError as error:
            warn(f"small files could not be joined, but all rows are stored: {error}")

    def _remove_codes(self) -> None:
        folder = self.folder / _CODES
        remove_codes(folder, self._table.data_files())

    def _delete_ids(self, ids: tuple[str, ...]) -> int:
        import pyarrow as pa

        return self._delete(lambda: pa.array(ids, pa.string()))

    def _delete_where(self, tree: Filter) -> int:
        import pyarrow as pa

        def find() -> Any:
            view, positions = self._table.reading(lambda dataset: self._find(dataset, None, tree))
            if not len(positions):
                return pa.array([], pa.string())
            return view.take(positions, [])[ID].combine_chunks()

        return self._delete(find)

    def _delete(self, find: Callable[[], Any]) -> int:
        deleted = self._table.delete(find)
        self._tidy()
        return deleted

    def _search(self, wanted: SearchRequest) -> SearchResult:
        return self._table.reading(lambda dataset: search_view(self._view(dataset), wanted))

    def _near_pairs(
        self, threshold: float, tree: Filter | None, without: frozenset[str]
    ) -> Iterator[NearPairs]:
        view = self._view(self._table.newest())
        mask = np.ones(view.rows, np.bool_) if tree is None else view.mask(tree)
        if without:
            mask = mask & ~view.mask_of_ids(tuple(without))
        with explained(self.folder, "read"):
            yield from near_pairs(view, threshold, mask)

    def _read(self, wanted: ReadRequest) -> Iterator[RowBlock]:
        names = [ID, *wanted.columns, *([VECTOR] if wanted.vectors else [])]
        if wanted.ids is None and wanted.tree is None:
            scanner = self._table.newest().scanner(columns=names, batch_size=_AT_ONCE)
            yield from self._blocks(scanner.to_batches())
            return
        view, positions = self._table.reading(
            lambda dataset: self._find(dataset, wanted.ids, wanted.tree)
        )
        starts = range(0, len(positions), _AT_ONCE)
        yield from self._blocks(
            view.take(positions[start : start + _AT_ONCE], names[1:]) for start in starts
        )

    def _blocks(self, tables: Iterable[Any]) -> Iterator[RowBlock]:
        """The rows of tables of pyarrow, all of one version.

        A version may vanish meanwhile. Then the caller must begin again, because nothing tells
        which rows of the newer version were given before.
        """
        left = iter(tables)
        while True:
            with explained(self.folder, "read"):
                table = next(left, None)
            if table is None:
                return
            yield to_block(table)

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

    def compact(self, *, now: bool = False) -> None:
        """Join small files, and remove versions and codes that no reader needs."""
        self._table.compact(timedelta(0) if now else KEPT)
        self._remove_codes()


def check_store(folder: Path, *, deep: bool = False) -> list[StoreProblem]:
    """What is wrong with a store in a folder, even one that does not open; see `Store.check`."""
    try:
        _read_schema(folder)
    except StorageError as error:
        return [StoreProblem(ABOUT, str(error))]
    problems = find_problems(folder, deep=deep)
    if problems or not deep:
        return problems
    again = "it is damaged; `repair` removes it, and the next search makes it again."
    bad = damaged_codes(folder / _CODES, LanceTable(folder).data_files())
    return [StoreProblem(f"{_CODES}/{path.name}", again) for path in bad]


def repair_store(folder: Path, *, drop: bool = False) -> Repaired:
    """Mend a store in a folder, even one that does not open; see `Store.repair`."""
    done = repair_table(folder, drop=drop)
    actions = [*done.actions, *_repair_about(folder)]
    if not done.left:
        bad = damaged_codes(folder / _CODES, LanceTable(folder).data_files())
        for path in bad:
            path.unlink(missing_ok=True)
        if bad:
            actions.append(f"removed {len(bad)} damaged files of codes, which are made again")
    return Repaired(tuple(actions), done.lost, done.left)


def _repair_about(folder: Path) -> list[str]:
    """Write `store.json` again if it cannot be read; what was done."""
    try:
        _read_schema(folder)
    except _NewerFormatError:
        raise
    except StorageError:
        try:
            schema = schema_in(LanceTable(folder).newest().schema.metadata)
        except ValueError as error:
            raise StorageError(
                f"{ABOUT} in {folder} cannot be written again: {error}; restore it from a copy."
            ) from None
        replace_file(folder / ABOUT, text_writer(_describe(schema)))
        return [f"wrote {ABOUT} again"]
    return []


class _NewerFormatError(StorageError):
    """A store that a newer version wrote."""


def _describe(schema: StoreSchema) -> str:
    """The text of `store.json`."""
    return json.dumps({"format": _FORMAT, **describe_schema(schema)}, indent=1) + "\n"


def _read_schema(folder: Path) -> StoreSchema:
    path = folder / ABOUT
    if not path.is_file():
        raise StorageError(
            f"{folder} is no store: it has no {ABOUT}; check the path. If it was one, "
            "`ecliptic library repair` writes this file again."
        )
    try:
        about = read_json(path)
        version = about.get("format")
        if isinstance(version, int) and version > _FORMAT:
            raise _NewerFormatError(
                f"{folder} has format {version}, this ecliptic reads {_FORMAT}; a newer version "
                "wrote it, so upgrade."
            )
        if version != _FORMAT:
            raise ValueError(f"its format is {version!r}")
        return schema_from(about)
    except (CorruptFileError, OSError, ValueError) as error:
        reason = f"{error}" if isinstance(error, ValueError) else "it is no JSON object"
        raise StorageError(
            f"{path} is damaged: {reason}; `ecliptic library repair` writes it again."
        ) from None
