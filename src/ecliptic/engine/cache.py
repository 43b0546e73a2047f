"""Vectors on disk, so that nothing is encoded twice: opt-in, bounded, shared by processes.

One SQLite file in WAL mode: a write is whole or absent even after a kill, and several processes
may use it at once. A key is the SHA-256 of an item's content and of the model's exact fingerprint.
"""

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import StorageError

R = TypeVar("R")
Vector = NDArray[np.float32]

_TABLE = """CREATE TABLE IF NOT EXISTS vectors
(key BLOB PRIMARY KEY, vector BLOB NOT NULL, digest BLOB NOT NULL, used REAL NOT NULL)
WITHOUT ROWID"""
_AT_ONCE = 500  # parameters of one SQL statement


class EmbeddingCache:
    """A folder of vectors by key, the least recently used dropped above `limit` bytes."""

    def __init__(self, folder: Path | str, limit: int = 2 * 1024**3) -> None:
        self.path = Path(folder) / "vectors.sqlite"
        self.limit = limit
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"the cache folder {folder} cannot be made: {error.strerror}; pass a folder you "
                "may write to, or no cache."
            ) from None
        self._connection = self._guarded(self._connect, at_first=True)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The vectors that are there; damaged ones are dropped and count as absent."""
        return self._guarded(lambda: self._get(keys))

    def put(self, vectors: Mapping[bytes, Vector]) -> None:
        """Store all of `vectors`, or none of them if the process dies meanwhile."""
        self._guarded(lambda: self._put(vectors))

    def __len__(self) -> int:
        return self._guarded(lambda: self._count())

    def close(self) -> None:
        """Close the file; the cache is not used afterwards."""
        self._connection.close()

    def _get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        found: dict[bytes, Vector] = {}
        damaged: list[bytes] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, vector, digest FROM vectors WHERE key IN ({marks})"
            for key, vector, digest in self._connection.execute(query, some):
                if _digest(key, vector) == digest:
                    found[key] = np.frombuffer(vector, dtype="<f4").copy()
                else:
                    damaged.append(key)
        with self._connection:
            self._many("DELETE FROM vectors WHERE key = ?", ((key,) for key in damaged))
            now = time.time()
            self._many("UPDATE vectors SET used = ? WHERE key = ?", ((now, key) for key in found))
        return found

    def _put(self, vectors: Mapping[bytes, Vector]) -> None:
        now = time.time()
        rows = ((key, data := v.astype("<f4").tobytes(), _digest(key, data), now)
                for key, v in vectors.items())  # fmt: skip
        with self._connection:
            self._many("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
            self._evict()

    def _evict(self) -> None:
        """Drop the least recently used rows once the limit is passed, down to nine tenths."""
        size = self._bytes_in_use()
        if size > self.limit:
            count = self._count()
            keep = int(count * 0.9 * self.limit / size)
            self._connection.execute(
                "DELETE FROM vectors WHERE key IN (SELECT key FROM vectors ORDER BY used LIMIT ?)",
                (count - keep,),
            )

    def _bytes_in_use(self) -> int:
        """Of the file, pages that deleted rows left free not counted."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _count(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])

    def _many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._connection.executemany(statement, rows)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE)
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _guarded(self, action: Callable[[], R], *, at_first: bool = False) -> R:
        """Run `action`; a damaged file is set aside, and the action runs on a fresh one."""
        with self._lock:
            try:
                return action()
            except sqlite3.OperationalError as error:  # locked, disk full, read-only
                raise StorageError(
                    f"the cache {self.path} cannot be used: {error}; check its permissions and "
                    "the free space, or load without a cache."
                ) from None
            except sqlite3.DatabaseError:
                if not at_first:
                    self._connection.close()
                self._set_aside()
                if not at_first:
                    self._connection = self._connect()
                return action()

    def _set_aside(self) -> None:
        """Keep the damaged file for inspection, under another name."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        if self.path.exists():
            self.path.replace(f"{self.path}.damaged")


def key_of(exact: str, kind: str, content: bytes) -> bytes:
    """The key of one item: its content under a model's exact fingerprint."""
    return hashlib.sha256(b"\0".join([exact.encode(), kind.encode(), content])).digest()


def _digest(key: bytes, vector: bytes) -> bytes:
    return hashlib.blake2b(key + vector, digest_size=8).digest()
