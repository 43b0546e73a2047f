"""Pictures of a library whose files are no longer there."""

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from ecliptic.engine import is_table, is_tar
from ecliptic.index import Compare, Store, StoreRow
from ecliptic.library.filling.given import GivenSources, below, within
from ecliptic.library.filling.parts import LibraryParts
from ecliptic.library.filling.places import (
    is_gone,
    is_lost,
    is_there,
    may_be_away,
    name_file,
    unescape,
)
from ecliptic.library.filling.rows import kept_of

_AT_ONCE = 4096  # contents that are looked up together


@dataclass
class GonePictures:
    """Pictures whose files are gone."""

    ids: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)  # perhaps only while a disk is not connected
    moved: int = 0  # whose content another file has; their rows are removed


def find_gone(
    parts: LibraryParts,
    sources: GivenSources,
    missing: Collection[str],
    was_seen: Callable[[str], bool],
) -> GonePictures:
    """The pictures of the sources whose files are gone; rejects of such files are forgotten.

    Args:
        parts: of the library.
        sources: as they were read.
        missing: ids of files that were named one by one, as in a table, and are gone.
        was_seen: whether a picture with this id was in a source.
    """
    found = GonePictures()
    ids: list[str] = []  # of files that are gone for good, or moved
    for place in sources.places:
        name, there = name_file(place), is_there(place)
        beside = is_there(os.path.dirname(name))  # noqa: PTH120 of any name
        single = is_tar(place) or is_table(place)
        for block in parts.store.read(where=below(place), columns=["path"]):
            for row in block.rows():
                file = row["path"] or (name if single else _archive_of(str(row["id"]), name))
                if not is_gone({"path": file}):
                    continue
                if may_be_away(str(file), unescape(name)) or not (
                    there or (file == name and beside)
                ):
                    found.away.append(str(row["id"]))
                else:
                    ids.append(str(row["id"]))
        rejects = [one for one in parts.rejects.ids() if one.startswith(f"{name}{os.sep}")]
        parts.rejects.remove([one for one in rejects if is_lost({"path": one})])
    for block in parts.store.read(ids=list(missing), columns=["path"]) if missing else ():
        for row in block.rows():
            (found.away if may_be_away(str(row["path"])) else ids).append(str(row["id"]))
    lost = [row for block in parts.store.read(ids=ids) for row in block.rows()] if ids else []
    moved = _find_moved(parts.store, lost)
    found.moved = parts.store.delete(ids=sorted(moved)) if moved else 0
    found.ids = [id_ for id_ in ids if id_ not in moved]
    for archive in sources.archives:
        found.ids += _gone_members(parts.store, archive, was_seen)
    found.ids, found.away = list(dict.fromkeys(found.ids)), list(dict.fromkeys(found.away))
    return found


def _archive_of(id_: str, place: str) -> str | None:
    """The tar or table that holds a picture without a file of its own, if its id tells it.

    It is the first part of the id below the folder `place` that is no folder.
    """
    if not id_.startswith(place):
        return None
    for end in range(len(place) + 1, len(id_)):
        ends = id_[end] == os.sep or id_.startswith(", row ", end)
        if ends and not os.path.isdir(unescape(id_[:end])):  # noqa: PTH112 of any name
            return id_[:end]
    return None


def _gone_members(store: Store, archive: str, was_seen: Callable[[str], bool]) -> Iterable[str]:
    """What was in a tar or a table, and is no longer in it."""
    for block in store.read(where=within(name_file(archive)), columns=["path"]):
        rows = (row for row in block.rows() if row["path"] is None)
        yield from (str(row["id"]) for row in rows if not was_seen(str(row["id"])))


def _find_moved(store: Store, lost: list[StoreRow]) -> set[str]:
    """The ids of rows that a run left behind which was killed while it moved them.

    The new row has the content of the old one, and all that users gave it, and its file is there.
    """
    found: set[str] = set()
    contents = sorted({str(row["content"]) for row in lost if row["content"]})
    for start in range(0, len(contents), _AT_ONCE):
        there: dict[str, list[StoreRow]] = {}
        where = Compare("content", "in", tuple(contents[start : start + _AT_ONCE]))
        for block in store.read(where=where):
            for row in block.rows():
                if row["path"] and os.path.isfile(unescape(str(row["path"]))):  # noqa: PTH113
                    there.setdefault(str(row["content"]), []).append(kept_of(row))
        found |= {
            str(row["id"]) for row in lost if kept_of(row) in there.get(str(row["content"]), [])
        }
    return found
