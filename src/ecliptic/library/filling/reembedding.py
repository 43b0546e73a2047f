"""Embeds the pictures of a library anew, for another model, beside the vectors of the old one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ecliptic.engine import Clip, Item
from ecliptic.errors import ConfigError, StorageError
from ecliptic.index import Compare, Not, Store, StoreRow, open_store
from ecliptic.library.filling.adding import Adding
from ecliptic.library.filling.parts import AddSummary, LibraryParts
from ecliptic.library.filling.pictures import NewPicture, find_file
from ecliptic.library.filling.places import unescape
from ecliptic.library.layout import COLUMNS, LibraryAbout, write_about

_FILES = Not(Compare("path", "is missing"))


class Reembedding:
    """One call of `Library.reembed`; a run that was stopped goes on where it was."""

    def __init__(self, folder: Path, old: LibraryParts, about: LibraryAbout) -> None:
        self._folder, self._old, self._about = folder, old, about
        self._extra: dict[str, StoreRow] = {}  # what a picture keeps of its old row

    def run(self, clip: Clip, advance: Callable[[int], object]) -> AddSummary:
        """Embed all files; the library changes to the new vectors at the end, all at once.

        Raises:
            ConfigError: some pictures have no file of their own.
            StorageError: a file cannot be read; the library keeps its old vectors.
        """
        if count := count_without_file(self._old.store):
            raise ConfigError(
                f"{count} pictures of {self._folder} came from tars or tables and have no file of "
                "their own, so they cannot be embedded anew; make another library of their sources."
            )
        store = open_store(self._folder / self._about.items, self._about.schema())
        parts = LibraryParts(store, self._old.thumbnails, self._old.rejects)
        adding = Adding(parts, clip, advance, retry=True, batch_size=None, find=self._find)
        summary = adding.summary
        seen: set[str] = set()
        while new := self._ids() - seen:  # another process may add pictures meanwhile
            seen |= new
            adding.run(self._items(new))
            if summary.interrupted:
                return summary
        if summary.rejected:
            first = summary.rejected[0]
            raise StorageError(
                f"{len(summary.rejected)} pictures cannot be embedded anew, such as {first.id}: "
                f"{first.reason} The library keeps its old vectors. Bring the files back, or "
                "remove these pictures (`ecliptic index --prune`, `ecliptic library remove`), and "
                "begin again; what is embedded is kept."
            )
        self._remove_stale(store)
        if left := len(self._ids()) - len(store):
            raise StorageError(
                f"{left} pictures have no new vector, which must not be; the library keeps its old "
                "vectors. Please report it."
            )
        write_about(self._folder, self._about)
        return summary

    def _remove_stale(self, store: Store) -> None:
        """Remove rows that were removed from the old vectors after an earlier run."""
        stale = {id_ for block in store.read(columns=[]) for id_ in block.ids} - self._ids()
        if stale:
            store.delete(ids=sorted(stale))

    def _ids(self) -> set[str]:
        return {
            id_ for block in self._old.store.read(where=_FILES, columns=[]) for id_ in block.ids
        }

    def _items(self, ids: set[str]) -> Iterator[Item]:
        kept = ["added", *(name for name in self._about.columns if name not in COLUMNS)]
        for block in self._old.store.read(where=_FILES, columns=["path", *kept]):
            self._extra = {str(row["id"]): row for row in block.rows() if row["id"] in ids}
            for id_, row in self._extra.items():
                yield Item(id_, unescape(str(row["path"])))

    def _find(self, item: Item) -> NewPicture:
        picture = find_file(item)
        picture.id = item.name  # an imported picture may have another id than its path
        row = self._extra[item.name]
        picture.extra = {name: row[name] for name in row if name not in ("id", "path")}
        return picture


def count_without_file(store: Store) -> int:
    """Pictures from tables, which cannot be read again."""
    blocks = store.read(where=Compare("path", "is missing"), columns=[])
    return sum(len(block.ids) for block in blocks)


def remove_items(folder: Path, about: LibraryAbout) -> None:
    """Remove the vectors of a model that is no longer used."""
    shutil.rmtree(folder / about.items)
