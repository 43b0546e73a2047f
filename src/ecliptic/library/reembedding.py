"""Embeds the pictures of a library anew, for another model, beside the vectors of the old one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ecliptic.engine import Clip, Item
from ecliptic.errors import StorageError
from ecliptic.index import Compare, Not, Store, StoreRow, open_store
from ecliptic.library.adding import Adding, AddSummary, LibraryParts
from ecliptic.library.layout import COLUMNS, LibraryAbout, write_about
from ecliptic.library.pictures import NewPicture, find_file, unescape

_FILES = Not(Compare("path", "is missing"))


class Reembedding:
    """One call of `Library.reembed`; a run that was stopped goes on where it was."""

    def __init__(self, folder: Path, old: LibraryParts, about: LibraryAbout) -> None:
        self._folder, self._old, self._about = folder, old, about
        self._extra: dict[str, StoreRow] = {}  # what a picture keeps of its old row

    def run(self, clip: Clip, advance: Callable[[int], object]) -> AddSummary:
        """Embed all files; the library changes to the new vectors at the end, all at once."""
        store = open_store(self._folder / self._about.items, self._about.schema())
        parts = LibraryParts(store, self._old.thumbnails, self._old.rejects)
        adding = Adding(parts, clip, advance, retry=True, batch_size=None, find=self._find)
        adding.run(self._items())
        summary = adding.summary
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
        write_about(self._folder, self._about)
        return summary

    def _remove_stale(self, store: Store) -> None:
        """Remove rows that were removed from the old vectors after an earlier run."""
        stale = {id_ for block in store.read(columns=[]) for id_ in block.ids}
        for block in self._old.store.read(columns=[]):
            stale.difference_update(block.ids)
        if stale:
            store.delete(ids=sorted(stale))

    def _items(self) -> Iterator[Item]:
        kept = ["added", *(name for name in self._about.columns if name not in COLUMNS)]
        for block in self._old.store.read(where=_FILES, columns=["path", *kept]):
            self._extra = {str(row["id"]): row for row in block.rows()}
            for id_, row in self._extra.items():
                yield Item(id_, unescape(str(row["path"])))

    def _find(self, item: Item) -> NewPicture:
        picture = find_file(item)
        row = self._extra[item.name]
        picture.extra = {name: row[name] for name in row if name not in ("id", "path")}
        return picture


def count_without_file(store: Store) -> int:
    """Pictures from tables, which cannot be read again."""
    blocks = store.read(where=Compare("path", "is missing"), columns=[])
    return sum(len(block.ids) for block in blocks)


def remove_items(folder: Path, about: LibraryAbout) -> None:
    """Remove the vectors of another model, which are no longer used."""
    for path in folder.glob("items-*"):
        if path.name != about.items:
            shutil.rmtree(path)
