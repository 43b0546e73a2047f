"""`LanceTable`: a table of rows with an id, which are on the disk when a call returns.

One process writes at a time; others wait. Readers see the newest version at each call. The house
rules for Lance (no sync of its own, no checksums, ids that nothing enforces) are kept here.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from ecliptic.errors import StorageError
from ecliptic.index.columns import ID
from ecliptic.index.lance.checksums import TABLE, Checksums
from ecliptic.index.lance.engine import FAILURES, explained, import_lance, is_missing
from ecliptic.storage import WriterLock, make_folder, sync_files

LOCK = "writer.lock"
WAIT = 60.0  # seconds for another writer
MOST_FRAGMENTS = 100  # before they are joined
ROWS_OF_FRAGMENT = 1 << 18  # rows that a joined fragment has at most, 262,144
KEPT = timedelta(hours=1)  # age of versions that readers may still use
KEY = {"lance-schema:unenforced-primary-key": "true"}  # metadata of the id's field
_T = TypeVar("_T")


class LanceTable:
    """A table in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Open the table in `folder`; `create` makes one."""
        self.folder = folder
        self._lance = import_lance()
        self._owner = os.getpid()
        self._lock = WriterLock(folder / LOCK)
        self.checksums = Checksums(folder)
        self._dataset = self._open()

    @classmethod
    def create(cls, folder: Path, schema: Any) -> "LanceTable":
        """Make an empty table; `schema` is of pyarrow, with a string `id` that is the key.

        Raises:
            StorageError: it cannot be written.
        """
        lance = import_lance()
        make_folder(folder)
        checksums = Checksums(folder)
        with WriterLock(folder / LOCK).hold(WAIT), explained(folder, "written"):
            path = str(folder / TABLE)
            there = (folder / TABLE).exists()  # of a killed process, without rows
            if there and lance.dataset(path).count_rows():
                raise StorageError(f"there is a table with rows in {folder}; open it.")
            mode = "overwrite" if there else "create"
            dataset = lance.write_dataset(schema.empty_table(), path, mode=mode)
            _settle(checksums, dataset)
        return cls(folder)

    def _open(self) -> Any:
        path = self.folder / TABLE
        if not path.is_dir():
            raise StorageError(f"there is no table in {self.folder}; check the path.")
        with explained(self.folder, "read"):
            return self._lance.dataset(str(path))

    def newest(self) -> Any:
        """The dataset of Lance at its newest version.

        Raises:
            StorageError: it cannot be read, or this is a forked process.
        """
        if os.getpid() != self._owner:
            raise StorageError(
                f"{self.folder} was opened in another process and cannot be used after a fork; "
                "open it in each process, and start these by the method `spawn`."
            )
        with explained(self.folder, "read"):
            self._dataset.checkout_latest()
        return self._dataset

    def reading(self, use: Callable[[Any], _T]) -> _T:
        """What `use` gives for the newest dataset; it is called again if files vanish meanwhile.

        Another process may have joined and removed files since the version was looked up.
        """
        try:
            return use(self.newest())
        except FAILURES as error:
            with explained(self.folder, "read"):
                if not is_missing(error):
                    raise
        self._dataset = self._open()
        with explained(self.folder, "read"):
            return use(self.newest())

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Be the one writer inside the block; what it commits is on the disk at its end.

        Yields:
            the newest dataset, for the calls of Lance that commit.

        Raises:
            StorageError: another process writes for long, the disk is full, or it may not be
                written; nothing is stored then.
        """
        with self._lock.hold(WAIT):
            dataset = self.newest()
            with explained(self.folder, "written"):
                yield dataset
                dataset.checkout_latest()
            _settle(self.checksums, dataset)

    def upsert(self, table: Any) -> int:
        """Add the rows of a pyarrow table, whose ids differ, and replace those that are there.

        Returns:
            the number of rows that were replaced.
        """
        with self.writing() as dataset:
            merge = dataset.merge_insert(ID)
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            counts = merge.execute(table)
            self._join_if_many(dataset)
        return int(counts["num_updated_rows"])

    def delete(self, ids: Any) -> int:
        """Delete rows by a pyarrow array of ids; returns how many were there."""
        import pyarrow as pa

        with self.writing() as dataset:
            merge = dataset.merge_insert(ID).when_matched_delete()
            counts = merge.execute(pa.table({ID: ids}))
            self._join_if_many(dataset)
        return int(counts["num_deleted_rows"])

    def _join_if_many(self, dataset: Any) -> None:
        dataset.checkout_latest()
        if len(dataset.get_fragments()) > MOST_FRAGMENTS:
            self._join(dataset, KEPT)

    def _join(self, dataset: Any, kept: timedelta) -> None:
        dataset.optimize.compact_files(target_rows_per_fragment=ROWS_OF_FRAGMENT)
        dataset.checkout_latest()
        dataset.cleanup_old_versions(kept, delete_unverified=True)  # there is no other writer

    def compact(self, kept: timedelta = KEPT) -> None:
        """Join small files, and remove versions that are older than `kept`."""
        with self.writing() as dataset:
            self._join(dataset, kept)
        with self._lock.hold(WAIT):
            self.checksums.forget_missing()

    def data_files(self) -> set[str]:
        """Names of the data files of the newest version."""
        return self.reading(lambda dataset: {data_file(f) for f in dataset.get_fragments()})

    def __len__(self) -> int:
        return int(self.reading(lambda dataset: dataset.count_rows()))


def data_file(fragment: Any) -> str:
    """The name of the file of a fragment; our tables have one for each."""
    return str(fragment.metadata.files[0].path)


def _settle(checksums: Checksums, dataset: Any) -> None:
    """Put a new version on the disk, and its checksums beside it."""
    checksums.refresh()
    files = checksums.unrecorded()
    if files:
        sync_files(files)
        checksums.record(dataset.version, dataset.count_rows(), files)
