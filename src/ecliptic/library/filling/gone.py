"""Pictures of a library whose files are no longer there."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ecliptic.engine import escape_surrogates
from ecliptic.index import Compare, Filter, Store
from ecliptic.library.filling.adding import LibraryParts
from ecliptic.library.filling.given import GivenSources, below, within
from ecliptic.library.filling.places import is_gone, is_lost, is_there, may_be_away

_AT_ONCE = 4096  # contents that are looked up together


@dataclass
class GonePictures:
    """Pictures whose files are gone."""

    ids: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)  # perhaps only while a disk is not connected
    moved: int = 0  # whose content another file has; their rows are removed


def find_gone(
    parts: LibraryParts, sources: GivenSources, was_seen: Callable[[str], bool]
) -> GonePictures:
    """The pictures of the sources whose files are gone; rejects of such files are forgotten.

    A picture whose content another file has was moved, and the run that moved it was killed: its
    old row is removed.

    Args:
        parts: of the library.
        sources: as they were read.
        was_seen: whether a picture with this id was in a source.
    """
    found = GonePictures()
    lost: dict[str, str] = {}
    for place in sources.places:
        name = escape_surrogates(os.path.abspath(place))  # noqa: PTH100 keeps links
        there = is_there(place)
        for block in parts.store.read(where=below(place), columns=["path", "content"]):
            for row in filter(is_gone, block.rows()):
                if may_be_away(str(row["path"])) or not (there or row["path"] == name):
                    found.away.append(str(row["id"]))
                else:
                    lost[str(row["id"])] = str(row["content"])
        rejects = [one for one in parts.rejects.ids() if one.startswith(f"{name}{os.sep}")]
        rejects = [one for one in rejects if is_lost({"path": one})]
        parts.rejects.remove(rejects)
    others = _contents_there(parts.store, sorted(set(lost.values())))
    moved = sorted(id_ for id_, content in lost.items() if content in others)
    found.moved = parts.store.delete(ids=moved) if moved else 0
    found.ids = [id_ for id_, content in lost.items() if content not in others]
    for archive in sources.archives:
        found.ids += _gone_members(parts.store, archive, was_seen)
    return found


def _gone_members(store: Store, archive: str, was_seen: Callable[[str], bool]) -> Iterable[str]:
    """What was in a tar or a table, and is no longer in it."""
    where: Filter = within(escape_surrogates(os.path.abspath(archive)))  # noqa: PTH100 keeps links
    for block in store.read(where=where, columns=["path"]):
        rows = (row for row in block.rows() if row["path"] is None)
        yield from (str(row["id"]) for row in rows if not was_seen(str(row["id"])))


def _contents_there(store: Store, contents: list[str]) -> set[str]:
    """Those of these contents that a file has which is there."""
    found: set[str] = set()
    for start in range(0, len(contents), _AT_ONCE):
        where = Compare("content", "in", tuple(contents[start : start + _AT_ONCE]))
        for block in store.read(where=where, columns=["path", "content"]):
            rows = [row for row in block.rows() if row["path"] is not None]
            found |= {str(row["content"]) for row in rows if not is_gone(row)}
    return found
