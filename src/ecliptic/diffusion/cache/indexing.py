"""Brings the index of a cache folder up to date with the shards on disk.

What a shard held that is now gone, or that changed, is remembered as lost until it is written again
or a repair forgets it; so is the identity of a shard that can no longer be read.
"""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ecliptic.diffusion.cache.keys import canonical_json
from ecliptic.diffusion.cache.rows import SHARD_TABLES, select_where, write_rows
from ecliptic.diffusion.cache.shards import Shard, read_shard, shard_paths
from ecliptic.errors import CheckpointError, StorageError
from ecliptic.storage import Connection, transaction

Stamp = tuple[int, int]  # size in bytes and time in nanoseconds of a file
PROMPT = -1  # in place of the shard of a name that is a prompt
_CLOSED: Stamp = (0, -1)  # of a shard that cannot be opened, so that it is tried again
_GONE: Stamp = (-1, -1)  # of a shard that is no longer there, but whose content is not found


@dataclass
class Changes:
    """How the shards on disk differed from the index."""

    added: set[int] = field(default_factory=set)  # numbers
    resized: dict[int, tuple[int, int]] = field(default_factory=dict)  # bytes then and now


def sync_index(file: Connection, folder: Path, changes: Changes) -> None:
    """Index what is new on disk, and note the differences in `changes`."""
    there = {number: stamp for number, stamp in _read_known(file).items() if stamp != _GONE}
    if _find_stamps(folder) != there:
        with transaction(file):
            index_shards(file, folder, changes)


def rebuild_index(file: Connection, folder: Path, forget: Collection[int]) -> None:
    """Index all shards again, and forget what those with the numbers `forget` had lost."""
    with transaction(file):
        index_shards(file, folder, Changes(), rebuild=True)
        file.executemany("DELETE FROM lost WHERE shard = ?", [(number,) for number in forget])
        settle_lost(file)


def index_shards(
    file: Connection, folder: Path, changes: Changes, *, rebuild: bool = False
) -> None:
    """Index the shards on disk, all again if an old one is gone or changed; in a transaction."""
    found, known = _find_stamps(folder), _read_known(file)
    changed = {number for number, stamp in known.items() if found.get(number, _GONE) != stamp}
    changes.added |= found.keys() - known.keys()
    identities: dict[int, bytes | None] = {}
    if rebuild or changed:
        for number, size, _, identity, problem in select_where(file, "shards"):
            identities[number] = identity
            if problem is None and size != found.get(number, (size,))[0]:
                changes.resized[number] = (size, found[number][0])
        _remember_lost(file, changed)
        for table in SHARD_TABLES:
            file.execute(f"DELETE FROM {table}")
        gone = known.keys() - found.keys()
        insert_problems(file, ((n, _GONE, identities[n], "it is gone") for n in gone))
        known = {}
    paths = shard_paths(folder)
    for number in sorted(found.keys() - known.keys()):
        _index_shard(file, number, paths[number], found[number], identities.get(number))
    settle_lost(file)


def find_last(file: Connection) -> int:
    """The highest number of a shard that the index knows, also of one that is gone; or -1."""
    [highest] = file.execute("SELECT MAX(number) FROM shards").fetchone()
    return -1 if highest is None else int(highest)


def insert_shard(file: Connection, number: int, stamp: Stamp, shard: Shard) -> None:
    """Add a shard to the index."""
    write_rows(file, "shards", [(number, *stamp, canonical_json(shard.identity), None)])
    keys = [bytes.fromhex(key) for key in shard.entries]
    write_rows(file, "entries", ((key, number) for key in keys))
    write_rows(file, "names", ((key, key, PROMPT) for key in keys))
    ids = ((shard.key_of(id_), key) for id_, key in shard.ids.items())
    write_rows(file, "names", ((bytes.fromhex(n), bytes.fromhex(key), number) for n, key in ids))


def insert_problems(file: Connection, rows: Iterable[tuple[int, Stamp, bytes | None, str]]) -> None:
    """Add shards that cannot be read: number, stamp, last known identity, reason."""
    coded = ((n, *stamp, known, why.encode(errors="replace")) for n, stamp, known, why in rows)
    write_rows(file, "shards", coded)


def stamp_of(path: Path) -> Stamp:
    """The size and time of a file."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def count_lost(file: Connection) -> dict[int, tuple[int, int]]:
    """How many prompts and ids each shard has lost, by number."""
    found: dict[int, tuple[int, int]] = {}
    for _, is_id, shard in select_where(file, "lost"):
        prompts, ids = found.get(shard, (0, 0))
        found[shard] = (prompts, ids + 1) if is_id else (prompts + 1, ids)
    return dict(sorted(found.items()))


def settle_lost(file: Connection) -> None:
    """Forget what was lost and is there again, and the gone shards of which nothing is missing."""
    if file.execute("SELECT 1 FROM lost LIMIT 1").fetchone():
        file.execute("DELETE FROM lost WHERE id = 0 AND name IN (SELECT key FROM entries)")
        file.execute("DELETE FROM lost WHERE id = 1 AND name IN (SELECT name FROM names)")
    file.execute(
        "DELETE FROM shards WHERE size = ? AND number NOT IN (SELECT shard FROM lost)", _GONE[:1]
    )


def _index_shard(
    file: Connection, number: int, path: Path, stamp: Stamp, identity: bytes | None
) -> None:
    try:
        insert_shard(file, number, stamp, read_shard(path))
    except (CheckpointError, StorageError) as error:
        insert_problems(file, [(number, stamp, identity, str(error))])
    except OSError as error:
        if os.path.lexists(path):  # else a repair just removed it
            insert_problems(file, [(number, _CLOSED, identity, f"{path}: {error.strerror}")])


def _remember_lost(file: Connection, shards: set[int]) -> None:
    """Note what the index knows in `shards`, before it is removed from the index."""
    if shards:
        keys = ((key, 0, number) for key, number in select_where(file, "entries"))
        ids = ((name, 1, number) for name, _, number in select_where(file, "names", "shard >= 0"))
        for rows in (keys, ids):
            write_rows(file, "lost", [row for row in rows if row[-1] in shards])


def _find_stamps(folder: Path) -> dict[int, Stamp]:
    found = {}
    for number, path in shard_paths(folder).items():
        try:
            found[number] = stamp_of(path)
        except OSError:
            if os.path.lexists(path):  # a link to itself or nowhere; else a repair just removed it
                found[number] = _CLOSED
    return found


def _read_known(file: Connection) -> dict[int, Stamp]:
    return {number: (size, stamp) for number, size, stamp, *_ in select_where(file, "shards")}
