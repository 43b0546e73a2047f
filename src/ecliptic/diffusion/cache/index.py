"""Which shard holds a key, and which key an id goes by: an SQLite file beside the shards.

The shards are the truth and the index is derived from them: it is brought up to date when it is
opened, and made anew when it is missing or damaged. Its write lock is the folder's lock: whoever
writes a shard, or removes what a killed run left, holds it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ecliptic.diffusion.cache.keys import canonical
from ecliptic.diffusion.cache.shards import Shard, drafts, publish, read_shard, shard_paths
from ecliptic.errors import CorruptFileError
from ecliptic.storage import Connection, HealingDatabase, Schema, select, transaction

_SCHEMA = Schema(
    name="index",
    statements=(
        "CREATE TABLE IF NOT EXISTS shards (number INTEGER PRIMARY KEY, size INTEGER NOT NULL,"
        " stamp INTEGER NOT NULL, identity BLOB)",  # NULL where the shard is torn
        "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, shard INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS ids (identity BLOB NOT NULL, id BLOB NOT NULL, key BLOB"
        " NOT NULL, PRIMARY KEY (identity, id)) WITHOUT ROWID",
    ),
    patience=600.0,  # another process may be writing a large shard
    in_memory_if_read_only=True,
)


class CacheIndex:
    """The index of one folder; may be shared by threads and by processes, forked ones too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = HealingDatabase(folder, _SCHEMA, lambda found: _sync(found, folder))
        self._run = self._database.run
        self.sync()

    @property
    def path(self) -> Path:
        """The file in use."""
        return self._database.path

    def sync(self) -> None:
        """Take in shards that other processes wrote; forget those that are gone or changed."""
        self._run(_sync, self.folder)

    def rebuild(self) -> None:
        """Make the index anew from the shards."""
        self._run(_sync, self.folder, anew=True)

    def publish(self, shard: Shard) -> int:
        """Write a shard under the next free number, which is returned."""
        return self._run(_publish, self.folder, shard)

    def clean(self) -> int:
        """Remove what killed runs left; how many files that were."""
        return self._run(_clean, self.folder)

    def shards_of(self, keys: Sequence[str]) -> dict[str, int]:
        """The number of the shard of each key that is there."""
        query = "SELECT key, shard FROM entries WHERE key IN"
        rows = self._run(select, query, [bytes.fromhex(key) for key in keys])
        return {key.hex(): number for key, number in rows}

    def keys_of(self, ids: Sequence[str], identity: Mapping[str, Any]) -> dict[str, str]:
        """The key of each id under `identity`."""
        query = "SELECT id, key FROM ids WHERE identity = ? AND id IN"
        values = [_bytes(id_) for id_ in ids]
        rows = self._run(select, query, values, (_short(canonical(identity)),))
        return {_text(id_): key.hex() for id_, key in rows}

    def keys_in(self, number: int) -> set[str]:
        """The keys for which shard `number` counts."""
        rows = self._run(_rows, "SELECT key FROM entries WHERE shard = ?", (number,))
        return {key.hex() for (key,) in rows}

    def keys(self) -> Iterator[str]:
        """All keys in order, a page of them in memory."""
        query = "SELECT key FROM entries WHERE key > ? ORDER BY key LIMIT 1000"
        last = b""
        while rows := self._run(_rows, query, (last,)):
            yield from (key.hex() for (key,) in rows)
            last = rows[-1][0]

    def identities(self) -> list[str]:
        """The different identities of the shards, as canonical JSON."""
        query = "SELECT DISTINCT identity FROM shards WHERE identity IS NOT NULL ORDER BY identity"
        return [row[0].decode() for row in self._run(_rows, query)]

    def torn(self) -> list[int]:
        """Numbers of shards that cannot be read."""
        query = "SELECT number FROM shards WHERE identity IS NULL"
        return [row[0] for row in self._run(_rows, query)]

    def __len__(self) -> int:
        return int(self._run(_rows, "SELECT COUNT(*) FROM entries")[0][0])

    def close(self) -> None:
        """Close the file; using the index opens it again."""
        self._database.close()


def _sync(file: Connection, folder: Path, anew: bool = False) -> None:
    if anew or _on_disk(folder) != _known(file):
        with transaction(file):
            _absorb(file, folder, anew)


def _absorb(file: Connection, folder: Path, anew: bool = False) -> None:
    """Index what is on disk; all of it again when a shard is gone or another than it was."""
    found, known = _on_disk(folder), _known(file)
    if anew or any(found.get(number) != stamp for number, stamp in known.items()):
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
        except FileNotFoundError:  # repaired away just now
            continue
        _insert(file, number, found[number], shard)
    if fresh:  # ids of prompts that were in a shard which is gone
        file.execute("DELETE FROM ids WHERE key NOT IN (SELECT key FROM entries)")


def _on_disk(folder: Path) -> dict[int, tuple[int, int]]:
    found = {}
    for number, path in shard_paths(folder).items():
        with suppress(FileNotFoundError):
            found[number] = _stamp(path)
    return found


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _known(file: Connection) -> dict[int, tuple[int, int]]:
    rows = file.execute("SELECT number, size, stamp FROM shards")
    return {number: (size, stamp) for number, size, stamp in rows}


def _insert(file: Connection, number: int, stamp: tuple[int, int], shard: Shard | None) -> None:
    """Of equal keys the first shard counts, of equal ids the last."""
    identity = None if shard is None else canonical(shard.identity)
    file.execute("INSERT INTO shards VALUES (?, ?, ?, ?)", (number, *stamp, identity))
    if shard is not None:
        keys = ((bytes.fromhex(key), number) for key in shard.entries)
        file.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", keys)
        short = _short(canonical(shard.identity))
        ids = ((short, _bytes(id_), bytes.fromhex(key)) for id_, key in shard.ids.items())
        file.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", ids)


def _short(identity: bytes) -> bytes:
    """What stands for an identity in the index."""
    return hashlib.sha256(identity).digest()[:16]


def _publish(file: Connection, folder: Path, shard: Shard) -> int:
    with transaction(file):
        _absorb(file, folder)
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


def _rows(file: Connection, query: str, values: Iterable[object] = ()) -> list[tuple[Any, ...]]:
    return file.execute(query, tuple(values)).fetchall()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")
