"""Pictures of a library whose files are no longer there."""

import os
from collections.abc import Iterable

from ecliptic.engine import escape_surrogates
from ecliptic.index import Compare, Store
from ecliptic.library.filling.adding import LibraryParts
from ecliptic.library.filling.pictures import is_gone

_AT_ONCE = 4096  # contents that are looked up together


def find_gone(parts: LibraryParts, folders: Iterable[str]) -> tuple[list[str], int]:
    """The pictures below `folders` whose files are gone; rejects of such files are forgotten.

    A picture whose content another file has was moved, and the run that moved it was killed: its
    old row is removed.

    Returns:
        the ids of the others, and the number of rows that were removed.
    """
    lost: dict[str, str] = {}
    for folder in folders:
        start = escape_surrogates(os.path.join(os.path.abspath(folder), ""))  # noqa: PTH100, PTH118
        where = Compare("path", "starts with", start)
        for block in parts.store.read(where=where, columns=["path", "content"]):
            rows = [row for row in block.rows() if is_gone(row)]
            lost |= {str(row["id"]): str(row["content"]) for row in rows}
        rejects = [one for one in parts.rejects.ids() if one.startswith(start)]
        parts.rejects.remove([one for one in rejects if is_gone({"path": one})])
    there = _contents_there(parts.store, sorted(set(lost.values())))
    moved = sorted(id_ for id_, content in lost.items() if content in there)
    removed = parts.store.delete(ids=moved) if moved else 0
    return [id_ for id_, content in lost.items() if content not in there], removed


def _contents_there(store: Store, contents: list[str]) -> set[str]:
    """Those of these contents that a file has which is there."""
    found: set[str] = set()
    for start in range(0, len(contents), _AT_ONCE):
        where = Compare("content", "in", tuple(contents[start : start + _AT_ONCE]))
        for block in store.read(where=where, columns=["path", "content"]):
            rows = [row for row in block.rows() if row["path"] is not None]
            found |= {str(row["content"]) for row in rows if not is_gone(row)}
    return found
