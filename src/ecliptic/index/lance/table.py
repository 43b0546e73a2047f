"""`LanceTable`: a table of rows with an id, which are on the disk when a call returns.

One process writes at a time; others wait. Readers see the newest version at each call. The house
rules for Lance (no sync of its own, no checksums, ids that nothing enforces) are kept here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from ecliptic.errors import StorageError
from ecliptic.index.columns import ID
from ecliptic.index.lance.checksums import NAME, TABLE, Checksums
from ecliptic.index.lance.engine import explained, import_lance, is_missing, open_dataset
from ecliptic.storage import WriterLock, drafts_of, make_folder, sync_files

LOCK = "writer.lock"
WAIT = 60.0  # seconds for another writer
MOST_FRAGMENTS = 100  # before they are joined
MOST_VERSIONS = 200  # before the older half is removed, whatever its age
ROWS_OF_FRAGMENT = 1 << 18  # rows that a joined fragment has at most, 262,144
KEPT = timedelta(hours=1)  # age of versions that readers may still use
KEY = {"lance-schema:unenforced-primary-key": "true"}  # metadata of the id's field
_LATEST = (None, None)  # for `checkout_version`: another object at the newest version
_SHORTEST = timedelta(microseconds=1)  # Lance takes an age of 0 for none given
_T = TypeVar("_T")


class LanceTable:
    """A table in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Open the table in `folder`; `create` makes one."""
        self.folder = folder
        self._lock = WriterLock(folder / LOCK)
        self.checksums = Checksums(folder)
        with explained(folder, "read"):
            self._dataset = self._open()

    @classmethod
    def create(cls, folder: Path, schema: Any) -> "LanceTable":
        """Make an empty table; `schema` is of pyarrow, with a string `id` that is the key.

        Raises:
            StorageError: it cannot be written, or there is another table.
        """
        lance = import_lance()
        make_folder(folder)
        path = str(folder / TABLE)
        with WriterLock(folder / LOCK).hold(WAIT), explained(folder, "written"):
            if manifests(folder):  # of a killed process
                dataset = open_dataset(folder / TABLE)
                _check_unused(folder, dataset, schema)
            else:
                dataset = lance.write_dataset(schema.empty_table(), path, mode="create")
            _settle(Checksums(folder), dataset)
        return cls(folder)

    def _open(self) -> Any:
        if not (self.folder / TABLE).is_dir():
            raise StorageError(f"there is no table in {self.folder}; check the path.")
        return open_dataset(self.folder / TABLE)

    def newest(self) -> Any:
        """The dataset of Lance at its newest version; this object stays at that version.

        Raises:
            StorageError: it cannot be read, or this is a forked process.
        """
        return self.reading(lambda dataset: dataset)

    def _look(self) -> Any:
        import_lance()  # refuses a forked process
        latest = self._dataset.latest_version
        if latest != self._dataset.version:
            self._dataset = self._dataset.checkout_version(latest)
        return self._dataset

    def reading(self, use: Callable[[Any], _T]) -> _T:
        """What `use` gives for the newest dataset; it is called again if files vanish meanwhile.

        Another process may have joined and removed files since the version was looked up.
        """
        try:
            return use(self._look())
        except BaseException as error:
            if not is_missing(error):
                with explained(self.folder, "read"):
                    raise
        with explained(self.folder, "read"):
            self._dataset = self._open()
            return use(self._look())

    def _hold(self) -> AbstractContextManager[None]:
        import_lance()  # refuses a forked process
        return self._lock.hold(WAIT)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Be the one writer inside the block; what it commits is on the disk at its end.

        Yields:
            the newest dataset, for the calls of Lance that commit.

        Raises:
            StorageError: another process writes for long, the disk is full, or it may not be
                written.
        """
        with self._hold():
            newest = self.newest()
            with explained(self.folder, "written"):
                yield newest.checkout_version(_LATEST)  # readers keep theirs
            try:
                _settle(self.checksums, self.newest())
            except StorageError as error:
                raise StorageError(
                    f"the rows were written, but a power cut may still take them: {error} Then "
                    "repeat the step; no row is stored twice."
                ) from error

    def upsert(self, table: Any) -> int:
        """Add the rows of a pyarrow table, whose ids differ, and replace those that are there.

        Returns:
            the number of rows that were replaced.
        """
        with self.writing() as dataset:
            merge = dataset.merge_insert(ID)
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            counts = merge.execute(table)
        return int(counts["num_updated_rows"])

    def delete(self, find: Callable[[], Any]) -> int:
        """Delete the rows of which `find` gives the ids, as an array of pyarrow.

        No other process writes between `find` and the end.

        Returns:
            how many of them were there.
        """
        import pyarrow as pa

        with self.writing() as dataset:
            ids = find()
            if not len(ids):
                return 0
            merge = dataset.merge_insert(ID).when_matched_delete()
            counts = merge.execute(pa.table({ID: ids}))
        return int(counts["num_deleted_rows"])

    def join_if_many(self) -> bool:
        """Join small files and remove old versions, if there are many; whether it was done."""
        few = len(self.newest().get_fragments()) <= MOST_FRAGMENTS
        if few and len(manifests(self.folder)) <= MOST_VERSIONS:
            return False
        with self._hold():
            self._remove_versions(KEPT)  # first: what others read now stays until the next time
            self._join()
        return True

    def compact(self, kept: timedelta = KEPT) -> None:
        """Join small files, and remove versions that are older than `kept`."""
        with self._hold():
            self._join()
            self._remove_versions(kept)
            for draft in drafts_of(self.folder, NAME):  # of killed writers
                draft.unlink(missing_ok=True)

    def _join(self) -> None:
        with self.writing() as dataset:
            dataset.optimize.compact_files(target_rows_per_fragment=ROWS_OF_FRAGMENT)

    def _remove_versions(self, kept: timedelta) -> None:
        """Remove old versions. The newest one must be on the disk, as after `writing`."""
        with self.writing() as dataset:
            clean = dataset.cleanup_old_versions
            clean(max(kept, _SHORTEST), delete_unverified=True)  # there is no other writer
            if len(manifests(self.folder)) > MOST_VERSIONS // 2:
                clean(retain_versions=MOST_VERSIONS // 2, delete_unverified=True)
        newest = self.newest()
        self.checksums.write_anew(newest.version, newest.count_rows())

    def data_files(self) -> set[str]:
        """Names of the data files of the newest version."""
        return self.reading(lambda dataset: {data_file(f) for f in dataset.get_fragments()})

    def __len__(self) -> int:
        return int(self.reading(lambda dataset: dataset.count_rows()))


def data_file(fragment: Any) -> str:
    """The name of the file of a fragment; our tables have one for each."""
    return str(fragment.metadata.files[0].path)


def deletion_file(fragment: Any) -> str:
    """The path of the file that tells which rows of a fragment were deleted; "" if none was."""
    found = fragment.metadata.deletion_file
    return "" if found is None else str(found.path(fragment.fragment_id))


def manifests(folder: Path) -> list[Path]:
    """The manifests of a table, one for each version, the newest first: their names count down."""
    return sorted((folder / TABLE / "_versions").glob("*.manifest"))


def _check_unused(folder: Path, dataset: Any, schema: Any) -> None:
    if dataset.count_rows() or not dataset.schema.equals(schema):
        raise StorageError(
            f"there is another table in {folder}, with rows or other columns; use another folder. "
            "If it is of a store that lost its `store.json`, `ecliptic library repair` writes that "
            "again."
        )


def _settle(checksums: Checksums, dataset: Any) -> None:
    """Put a new version on the disk, and its checksums beside it."""
    checksums.refresh()
    files = checksums.unrecorded()
    if files:
        sync_files(files)
        checksums.record(dataset.version, dataset.count_rows(), files)
