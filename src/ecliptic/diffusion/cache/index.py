"""The index of a cache folder: the shard of each key and the key of each id, in an SQLite file.

The index is derived from the shards: it is updated when it is opened, and rebuilt when it is
missing or damaged. Its write lock is the lock of the folder: a process holds it while it writes a
shard, or removes the files of killed runs.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecliptic.diffusion.cache.keys import canonical_json
from ecliptic.diffusion.cache.shards import Shard, drafts, publish, read_shard, shard_paths
from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.storage import Connection, HealingDatabase, Schema, check_path, select, transaction

_SCHEMA = Schema(
    name="index",
    statements=(
        "CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, size INTEGER NOT NULL,"
        " stamp INTEGER NOT NULL, identity BLOB)",  # NULL if the shard is torn
        "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, shard INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS ids (identity BLOB NOT NULL, id BLOB NOT NULL, key BLOB"
        " NOT NULL, PRIMARY KEY (identity, id)) WITHOUT ROWID",
    ),
    patience=600.0,  # another process may be writing a large shard
    in_memory_if_read_only=True,
)


class CacheIndex:
    """The index of one folder; threads and processes may share it, also forked ones."""

    def __init__(self, folder: Path) -> None:
        """Open the index of `folder`.

        Raises:
            StorageError: there is no such folder, or nothing in it can be read.
        """
        check_path(folder)
        if not folder.is_dir():
            raise StorageError(f"there is no cache folder {folder}; `write_cache` makes one.")
        self.folder = folder
        self._database = HealingDatabase(folder, _SCHEMA, lambda found: _sync(found, folder))
        self._run = self._database.run
        self.sync()

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
        query = "SELECT key, shard FROM entries WHERE key IN"
        rows = self._run(select, query, [bytes.fromhex(key) for key in keys])
        return {key.hex(): number for key, number in rows}

    def keys_of(self, ids: Sequence[str], identity: Mapping[str, Any]) -> dict[str, str]:
        """The key of each id under `identity`."""
        query = "SELECT id, key FROM ids WHERE identity = ? AND id IN"
        values = [_encode_id(id_) for id_ in ids]
        rows = self._run(select, query, values, (_hash(canonical_json(identity)),))
        return {id_.decode(errors="surrogatepass"): key.hex() for id_, key in rows}

    def keys_in(self, number: int) -> set[str]:
        """The keys that are read from shard `number`."""
        rows = self._run(_select_rows, "SELECT key FROM entries WHERE shard = ?", (number,))
        return {key.hex() for (key,) in rows}

    def keys(self) -> Iterator[str]:
        """Yield all keys in order, with one page of them in memory."""
        query = "SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT 1000"
        last = b""
        while rows := self._run(_select_rows, query, (last,)):
            yield from (key.hex() for (key,) in rows)
            last = rows[-1][0]

    def identities(self) -> list[str]:
        """The different identities of the shards, as canonical JSON."""
        query = "SELECT DISTINCT identity FROM shards WHERE identity IS NOT NULL ORDER BY identity"
        return [row[0].decode() for row in self._run(_select_rows, query)]

    def torn(self) -> list[int]:
        """Numbers of shards that cannot be read."""
        query = "SELECT number FROM shards WHERE identity IS NULL"
        return [row[0] for row in self._run(_select_rows, query)]

    def __len__(self) -> int:
        return int(self._run(_select_rows, "SELECT COUNT(*) FROM entries")[0][0])

    def close(self) -> None:
        """Close the file; the next use of the index reopens it."""
        self._database.close()


def _sync(file: Connection, folder: Path, rebuild: bool = False) -> None:
    if rebuild or _find_stamps(folder) != _read_known(file):
        with transaction(file):
            _index_shards(file, folder, rebuild)


def _index_shards(file: Connection, folder: Path, rebuild: bool = False) -> None:
    """Index the shards on disk; all of them again if an old one is gone or changed."""
    found, known = _find_stamps(folder), _read_known(file)
    if rebuild or any(found.get(number) != stamp for number, stamp in known.items()):
        for table in ("shards", "entries", "ids"):
            file.execute(f"DELETE FROM {table}")
        known = {}
    paths = shard_paths(folder)
    fresh = sorted(found.keys() - known.keys())
    for number in fresh:
        try:
            shard: Shard | None = read_shard(paths[number])
        except CorruptFileError:
            shard = None
        except FileNotFoundError:  # a repair just removed it
            continue
        _insert(file, number, found[number], shard)
    if fresh:  # ids of prompts whose shard is gone
        file.execute("DELETE FROM ids WHERE key NOT IN (SELECT key FROM entries)")


def _find_stamps(folder: Path) -> dict[int, tuple[int, int]]:
    found = {}
    for number, path in shard_paths(folder).items():
        with suppress(FileNotFoundError):
            found[number] = _stamp(path)
    return found


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _read_known(file: Connection) -> dict[int, tuple[int, int]]:
    rows = file.execute("SELECT number, size, stamp FROM shards")
    return {number: (size, stamp) for number, size, stamp in rows}


def _insert(file: Connection, number: int, stamp: tuple[int, int], shard: Shard | None) -> None:
    """Add a shard; the first shard of a key counts, and the last shard of an id."""
    identity = None if shard is None else canonical_json(shard.identity)
    file.execute("INSERT INTO shards VALUES (?, ?, ?, ?)", (number, *stamp, identity))
    if shard is not None:
        keys = ((bytes.fromhex(key), number) for key in shard.entries)
        file.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", keys)
        short = _hash(canonical_json(shard.identity))
        ids = ((short, _encode_id(id_), bytes.fromhex(key)) for id_, key in shard.ids.items())
        file.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", ids)


def _hash(identity: bytes) -> bytes:
    """Hash an identity to 16 bytes, for the index."""
    return hashlib.sha256(identity).digest()[:16]


def _publish(file: Connection, folder: Path, shard: Shard) -> int:
    with transaction(file):
        _index_shards(file, folder)
        path = publish(folder, shard, max(shard_paths(folder), default=-1) + 1)
        number = next(n for n, found in shard_paths(folder).items() if found == path)
        _insert(file, number, _stamp(path), shard)
    return number


def _clean(file: Connection, folder: Path) -> int:
    with transaction(file):
        left = drafts(folder)
        for path in left:
            path.unlink(missing_ok=True)
    return len(left)


def _select_rows(
    file: Connection, query: str, values: Iterable[object] = ()
) -> list[tuple[Any, ...]]:
    return file.execute(query, tuple(values)).fetchall()


def _encode_id(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
