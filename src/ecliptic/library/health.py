"""Checks and mends the folders of a library, also of one that does not open."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ecliptic.errors import CorruptFileError, EclipticError, ImageError, StorageError
from ecliptic.index import (
    KeyedTable,
    Repaired,
    Store,
    StoreProblem,
    StoreRow,
    check_store,
    find_problems,
    open_store,
    repair_store,
    repair_table,
)
from ecliptic.library.filling.rejected import RejectedPictures
from ecliptic.library.filling.thumbnails import read_thumbnail
from ecliptic.library.layout import (
    ABOUT,
    COLUMNS,
    REJECTS,
    SETTING,
    THUMBNAILS,
    LibraryAbout,
    read_about,
    write_about,
)
from ecliptic.library.models import known_name

_AT_ONCE = 256  # thumbnails that are written together


def check_library(path: str | os.PathLike[str], *, deep: bool = False) -> list[StoreProblem]:
    """What is wrong with a library, also with one that does not open; see `Library.check`."""
    folder = Path(path)
    try:
        about = read_about(folder)
    except CorruptFileError as error:
        return [StoreProblem(ABOUT, str(error))]
    except StorageError as error:
        if (folder / ABOUT).exists() or not _items_of(folder):
            raise
        return [
            StoreProblem(ABOUT, f"it is gone; `ecliptic library repair` writes it again: {error}")
        ]
    problems = _check(folder / about.items, deep=deep)
    for name in (THUMBNAILS, REJECTS):
        problems += _check(folder / name, deep=deep)
    return problems


def _check(part: Path, *, deep: bool) -> list[StoreProblem]:
    """Problems of one folder; their places begin with its name."""
    if not part.is_dir():
        again = "`repair` makes it again." if part.name in (THUMBNAILS, REJECTS) else "restore it."
        return [StoreProblem(part.name, f"the folder is gone; {again}")]
    look = find_problems if part.name in (THUMBNAILS, REJECTS) else check_store
    return [_place(part, problem) for problem in look(part, deep=deep)]


def _place(part: Path, problem: StoreProblem) -> StoreProblem:
    where = problem.where.removeprefix(str(part))
    return StoreProblem(f"{part.name}/{where}".rstrip("/"), problem.what)


def repair_library(path: str | os.PathLike[str], *, drop: bool = False) -> Repaired:
    """Mend a library, also one that does not open; see `Library.repair`.

    Raises:
        StorageError: the vectors have no version that can be read.
    """
    folder = Path(path)
    about, actions = _repair_about(folder)
    items = folder / about.items
    done = repair_store(items, drop=drop)
    actions += [f"{items.name}: {action}" for action in done.actions]
    left = [_place(items, problem) for problem in done.left]
    for name in (THUMBNAILS, REJECTS):
        mended = _repair_derived(folder / name)
        actions += [f"{name}: {action}" for action in mended.actions]
        left += [_place(folder / name, problem) for problem in mended.left]
    if not left:
        actions += _make_thumbnails(folder, about)
    return Repaired(tuple(actions), done.lost, tuple(left))


def _repair_about(folder: Path) -> tuple[LibraryAbout, list[str]]:
    """`library.json`, and what was done; it is written again from the items if it is damaged."""
    try:
        return read_about(folder), []
    except EclipticError as error:
        found = _items_of(folder)
        damaged = isinstance(error, CorruptFileError) or not (folder / ABOUT).exists()
        if not damaged or not found:
            raise
        if len(found) > 1:
            raise StorageError(
                f"{error} It cannot be, because there are vectors of {len(found)} models: "
                f"{', '.join(path.name for path in found)}; remove those that are not complete."
            ) from None
    repair_store(found[0])
    schema = open_store(found[0]).schema
    facts, own = schema.facts, {n: t for n, t in schema.columns.items() if n not in COLUMNS}
    name = facts["model"]
    about = LibraryAbout(
        known_name(name),
        name,
        facts["space"],
        facts["exact"],
        schema.width,
        own,
        {key.removeprefix(SETTING): v for key, v in facts.items() if key.startswith(SETTING)},
    )
    write_about(folder, about)
    how = "" if about.model else f"; name its model, {name}, with --model from now on"
    return about, [f"wrote {ABOUT} again{how}"]


def _items_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("items-*") if path.is_dir())


def _repair_derived(part: Path) -> Repaired:
    """Mend a table that can be made again: what is damaged is dropped without a loss."""
    try:
        if part.is_dir():
            return repair_table(part, drop=True)
    except StorageError:
        shutil.rmtree(part)
    return Repaired((f"{part.name} could not be read, so it is made again",), 0)


def _make_thumbnails(folder: Path, about: LibraryAbout) -> list[str]:
    """Make the thumbnails that are missing, from the files; what was done."""
    RejectedPictures(folder / REJECTS)
    table = KeyedTable(folder / THUMBNAILS, {"jpeg": "bytes"})
    small: dict[str, bytes] = {}
    made = failed = 0
    for row in _rows_without(folder, about, table):
        try:
            small[str(row["content"])] = read_thumbnail(row)
        except ImageError:
            failed += 1
            continue
        made += 1
        if len(small) >= _AT_ONCE:
            table.upsert(list(small), {"jpeg": list(small.values())})
            small = {}
    if small:
        table.upsert(list(small), {"jpeg": list(small.values())})
    actions = [f"made {made} missing thumbnails"] if made else []
    gone = f"{failed} thumbnails are missing, because their files are gone or changed"
    return [*actions, gone] if failed else actions


def _rows_without(folder: Path, about: LibraryAbout, table: KeyedTable) -> Iterator[StoreRow]:
    """One row for each content that has no thumbnail."""
    seen: set[str] = set()
    with open_store(folder / about.items) as store:
        for block in store.read(columns=["path", "content"]):
            contents = [str(content) for content in block.columns["content"] if content]
            there = table.find(contents) if contents else set()
            for row in block.rows():
                content = row["content"]
                if content and row["path"] and content not in there and str(content) not in seen:
                    seen.add(str(content))
                    yield row


def remove_unused_thumbnails(store: Store, thumbnails: KeyedTable) -> None:
    """Remove thumbnails of contents that no picture has; nothing may be added meanwhile."""
    unused = set(thumbnails.ids())
    for block in store.read(columns=["content"]):
        unused.difference_update(str(content) for content in block.columns["content"])
    if unused:
        thumbnails.delete(sorted(unused))
