"""The row of a picture: where it is, what its bytes tell, and what users gave it."""

import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ecliptic.engine import escape_surrogates
from ecliptic.index import Store, StoreRow
from ecliptic.library.filling.pictures import NewPicture
from ecliptic.library.filling.places import folder_of, name_file
from ecliptic.library.layout import COLUMNS

FACTS = ("width", "height", "format", "taken", "camera")  # of the bytes alone
_EPOCH = datetime(1970, 1, 1)


def modified_of(mtime_ns: int) -> datetime:
    """The time of a file as its row has it, in microseconds."""
    return _EPOCH + timedelta(microseconds=mtime_ns // 1000)


def make_row(picture: NewPicture, facts: StoreRow, kept: StoreRow) -> StoreRow:
    """The row of a picture.

    Args:
        picture: its place, and the cells of its row in a table.
        facts: of its bytes, as `FACTS` names them.
        kept: of its own row before, by `kept_of`; empty for a new picture.
    """
    added = datetime.now(UTC).replace(tzinfo=None)
    known = {name: facts.get(name) for name in FACTS}
    return {"added": added, **kept, **known, **_place(picture), **picture.extra}


def kept_of(row: StoreRow) -> StoreRow:
    """What a picture keeps when its content changes or it moves: `added`, and columns of users."""
    ours = COLUMNS.keys() - {"added"} | {"id"}
    return {name: value for name, value in row.items() if name not in ours}


def read_kept(store: Store, ids: Iterable[str]) -> Mapping[str, StoreRow]:
    """`kept_of` the rows with these ids, by id."""
    given = list(ids)
    blocks = store.read(ids=given) if given else ()
    return {str(row["id"]): kept_of(row) for block in blocks for row in block.rows()}


def _place(picture: NewPicture) -> StoreRow:
    """The columns that tell where a picture is, and which bytes it had."""
    path = escape_surrogates(picture.path)
    return {
        "id": picture.id,
        "path": path or None,
        "name": Path(path or picture.item.name).name,
        "folder": folder_of(path) or _archive_folder(picture),
        "size": picture.size,
        "modified": modified_of(picture.mtime_ns) if path else None,
        "mtime_ns": picture.mtime_ns,
        "content": picture.content,
    }


def _archive_folder(picture: NewPicture) -> str | None:
    """The tar or table of a picture, or the folder in a tar; None for a picture of neither."""
    if not picture.item.archive:
        return None
    archive = name_file(picture.item.archive)
    return folder_of(picture.id) if picture.id.startswith(f"{archive}{os.sep}") else archive
