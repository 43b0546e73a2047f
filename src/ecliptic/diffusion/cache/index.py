"""The index of a cache folder: the shard of each key and the key of each name, in an SQLite file.

A name is a caption's id or a prompt. An id hides a prompt of the same text, so both are rows of one
table: a lost row is a miss, never the other caption. Each row has a checksum.

The index is derived from the shards: it is updated when it is opened, and rebuilt when it is
missing, damaged or of another version. Its write lock is the lock of the folder: a process holds it
while it writes a shard, or removes the files of killed runs.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any

from ecliptic.diffusion.cache.keys import canonical_json, key_maker
from ecliptic.diffusion.cache.shards import (
    Shard,
    check_identity,
    drafts,
    publish,
    read_shard,
    shard_path,
    shard_paths,
)
from ecliptic.errors import CheckpointError, StorageError
from ecliptic.storage import (
    Connection,
    DamagedRowError,
    HealingDatabase,
    Schema,
    check_path,
    select,
    transaction,
)

IndexRow = tuple[Any, ...]
_SCHEMA = Schema(
    name="index",
    statements=(
        "CREATE TABLE shards (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, stamp INTEGER"
        " NOT NULL, identity BLOB, problem BLOB, sum BLOB NOT NULL)",  # one of the two is NULL
        "CREATE TABLE entries (key BLOB PRIMARY KEY, shard INTEGER NOT NULL, sum BLOB NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE names (name BLOB PRIMARY KEY, key BLOB NOT NULL, shard INTEGER NOT NULL,"
        " sum BLOB NOT NULL) WITHOUT ROWID",  # `name` is the key that it would have as a prompt
    ),
    patience=600.0,  # another process may be writing a large shard
    in_memory_if_read_only=True,
)
_COLUMNS = {
    "shards": "number, size, stamp, identity, problem",
    "entries": "key, shard",
    "names": "name, key, shard",
}
_KINDS: dict[str, tuple[type | UnionType, ...]] = {
    "shards": (int, int, int, bytes | None, bytes | None),
    "entries": (bytes, int),
    "names": (bytes, bytes, int),
}
_INSERT = {
    "shards": "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)",
    "entries": "INSERT OR IGNORE INTO entries VALUES (?, ?, ?)",  # the first shard of a key
    "names": "INSERT INTO names VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
    " key = excluded.key, shard = excluded.shard, sum = excluded.sum"
    " WHERE excluded.shard >= names.shard",  # the last shard of an id
}
_NEXT = "key > ? ORDER BY key LIMIT 1000"
_PROMPT = -1  # in place of the shard of a name that is a prompt
_CLOSED = (0, -1)  # size and time of a shard that cannot be opened, so that it is tried again


class CacheIndex:
    """The index of one folder; threads and processes may share it, also forked ones."""

    def __init__(self, folder: Path) -> None:
        """Open the index of `folder`.

        Raises:
            StorageError: there is no such folder, or the index cannot be used.
        """
        check_path(folder)
        if not folder.is_dir():
            raise StorageError(
                f"there is no cache folder {folder}; `ecliptic captions write` or `write_cache` "
                "makes one."
            )
        self.folder = folder
        self._database = HealingDatabase(folder, _SCHEMA, lambda found: _sync(found, folder))
        self._run = self._database.run
        self.sync()

    @property
    def replaced(self) -> list[Path]:
        """Damaged files of the index, in whose place there is a new one."""
        return self._database.replaced

    def sync(self) -> None:
        """Add shards that other processes wrote; remove those that are gone or changed."""
        self._run(_sync, self.folder)

    def rebuild(self) -> None:
        """Rebuild the index from the shards."""
        self._run(_sync, self.folder, rebuild=True)

    def publish(self, shard: Shard) -> int:
        """Write a shard under the next free number; returns the number."""
        return self._run(_publish, self.folder, shard)

    def clean(self) -> int:
        """Remove the files of killed runs; returns their number."""
        return self._run(_clean, self.folder)

    def shards_of(self, keys: Sequence[str]) -> dict[str, int]:
        """The shard number of each key that is stored."""
        rows = self._run(_select, "entries", "key", [bytes.fromhex(key) for key in keys])
        return {key.hex(): number for key, number in rows}

    def keys_of(self, names: Sequence[str], identity: Mapping[str, Any]) -> dict[str, str]:
        """The key that each id, or else prompt, stands for under `identity`."""
        found = self._find_names(names, identity)
        return {name: key for name, (key, _) in found.items()}

    def keys_in(self, number: int) -> set[str]:
        """The keys that are read from shard `number`."""
        rows = self._run(_select_where, "entries", "shard = ?", (number,))
        return {key.hex() for key, _ in rows}

    def missing(self, number: int, shard: Shard) -> Iterator[str]:
        """Yield what shard `number` holds and the index does not know."""
        known = self.shards_of(list(shard.entries))
        yield from (key for key in shard.entries if known.get(key, number + 1) > number)
        found = self._find_names([*shard.ids], shard.identity)
        for id_, key in shard.ids.items():
            now, last = found.get(id_, ("", _PROMPT))
            if last < number or (last == number and now != key):
                yield key

    def keys(self) -> Iterator[str]:
        """Yield all keys in order, with one page of them in memory."""
        last = b""
        while page := self._run(_read_page, last):
            yield from (key.hex() for key in page)
            last = page[-1]

    def identities(self) -> list[str]:
        """The different identities of the shards, as canonical JSON."""
        return self._run(_read_identities)

    def unreadable(self) -> dict[int, str]:
        """The reason for each shard that cannot be read, by number."""
        rows = self._run(_select_where, "shards", "identity IS NULL")
        return {number: problem.decode(errors="replace") for number, *_, problem in rows}

    def __len__(self) -> int:
        return self._run(_count)

    def close(self) -> None:
        """Close the file; the next use of the index reopens it."""
        self._database.close()

    def _find_names(
        self, names: Sequence[str], identity: Mapping[str, Any]
    ) -> dict[str, tuple[str, int]]:
        """The key and shard of each name."""
        key_of = key_maker(identity)
        by_hash = {bytes.fromhex(key_of(name)): name for name in names}
        rows = self._run(_select, "names", "name", list(by_hash))
        return {by_hash[name]: (key.hex(), shard) for name, key, shard in rows}


def _sync(file: Connection, folder: Path, rebuild: bool = False) -> None:
    if rebuild or _find_stamps(folder) != _read_known(file):
        with transaction(file):
            _index_shards(file, folder, rebuild)


def _index_shards(file: Connection, folder: Path, rebuild: bool = False) -> None:
    """Index the shards on disk; all of them again if an old one is gone or changed."""
    found, known = _find_stamps(folder), _read_known(file)
    if rebuild or any(found.get(number) != stamp for number, stamp in known.items()):
        for table in _COLUMNS:
            file.execute(f"DELETE FROM {table}")
        known = {}
    paths = shard_paths(folder)
    for number in sorted(found.keys() - known.keys()):
        try:
            _insert(file, number, found[number], read_shard(paths[number]))
        except (CheckpointError, StorageError) as error:
            _insert(file, number, found[number], None, str(error))
        except OSError as error:
            if os.path.lexists(paths[number]):  # else a repair just removed it
                _insert(file, number, _CLOSED, None, f"{paths[number]}: {error.strerror}")


def _find_stamps(folder: Path) -> dict[int, tuple[int, int]]:
    found = {}
    for number, path in shard_paths(folder).items():
        try:
            found[number] = _stamp(path)
        except OSError:
            if os.path.lexists(path):  # a link to itself or nowhere; else a repair just removed it
                found[number] = _CLOSED
    return found


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _read_known(file: Connection) -> dict[int, tuple[int, int]]:
    return {number: (size, stamp) for number, size, stamp, *_ in _select_where(file, "shards")}


def _insert(
    file: Connection, number: int, stamp: tuple[int, int], shard: Shard | None, problem: str = ""
) -> None:
    """Add a shard; without one, the `problem` that it has."""
    if shard is None:
        _write(file, "shards", [(number, *stamp, None, problem.encode(errors="replace"))])
        return
    _write(file, "shards", [(number, *stamp, canonical_json(shard.identity), None)])
    keys = [bytes.fromhex(key) for key in shard.entries]
    _write(file, "entries", ((key, number) for key in keys))
    _write(file, "names", ((key, key, _PROMPT) for key in keys))
    ids = ((shard.key_of(id_), key) for id_, key in shard.ids.items())
    _write(file, "names", ((bytes.fromhex(n), bytes.fromhex(key), number) for n, key in ids))


def _write(file: Connection, table: str, rows: Iterable[IndexRow]) -> None:
    file.executemany(_INSERT[table], ((*row, _sum(table, row)) for row in rows))


def _select(file: Connection, table: str, column: str, values: Sequence[bytes]) -> list[IndexRow]:
    query = f"SELECT {_COLUMNS[table]}, sum FROM {table} WHERE {column} IN"
    return _check(table, select(file, query, values))


def _select_where(
    file: Connection, table: str, where: str = "TRUE", values: Iterable[object] = ()
) -> list[IndexRow]:
    query = f"SELECT {_COLUMNS[table]}, sum FROM {table} WHERE {where}"
    return _check(table, file.gather(file.execute(query, tuple(values))))


def _read_identities(file: Connection) -> list[str]:
    rows = _select_where(file, "shards", "identity IS NOT NULL")
    found = sorted({identity for *_, identity, _ in rows})
    try:
        for identity in found:
            check_identity(json.loads(identity))
    except (ValueError, RecursionError) as error:
        raise DamagedRowError(f"an identity is damaged: {error}") from None
    return [identity.decode() for identity in found]


def _read_page(file: Connection, last: bytes) -> list[bytes]:
    """The next keys after `last`; out of order, they would never end."""
    page = [key for key, _ in _select_where(file, "entries", _NEXT, (last,))]
    if any(key <= before for before, key in pairwise([last, *page])):
        raise DamagedRowError("the keys are out of order")
    return page


def _check(table: str, rows: list[IndexRow]) -> list[IndexRow]:
    """The rows without their checksums, which must be right."""
    if any(_sum(table, row[:-1]) != row[-1] for row in rows):
        raise DamagedRowError(f"a row of {table} does not match its checksum")
    if not all(all(map(isinstance, row, _KINDS[table])) for row in rows):
        raise DamagedRowError(f"a row of {table} has other types than were written")
    return [row[:-1] for row in rows]


def _sum(table: str, row: IndexRow) -> bytes:
    return hashlib.blake2b(repr((table, *row)).encode(), digest_size=16).digest()


def _publish(file: Connection, folder: Path, shard: Shard) -> int:
    with transaction(file):
        _index_shards(file, folder)
        number = publish(folder, shard, max(shard_paths(folder), default=-1) + 1)
        _insert(file, number, _stamp(shard_path(folder, number)), shard)
    return number


def _clean(file: Connection, folder: Path) -> int:
    with transaction(file):
        left = drafts(folder)
        for path in left:
            path.unlink(missing_ok=True)
    return len(left)


def _count(file: Connection) -> int:
    return int(file.execute("SELECT COUNT(key) FROM entries").fetchone()[0])
