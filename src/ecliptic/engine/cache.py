"""Vectors on disk, so that nothing is encoded twice: opt-in, bounded, shared by processes.

One SQLite file in WAL mode: a write is whole or absent even after a kill, and several processes
may use it at once. A key is the SHA-256 of an item's content and of the model's exact fingerprint.

A damaged file is never renamed or removed while others may have it open, which could damage its
successor (sqlite.org/howtocorrupt.html, 2.4): the file of the next number takes over.
"""

import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ConfigError, StorageError

R = TypeVar("R")
Vector = NDArray[np.float32]

_SCHEMA = (  # `used` has an index of its own: evicting must not read the vectors
    "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, used REAL NOT NULL,"
    " digest BLOB NOT NULL, vector BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS by_use ON vectors (used)",
)
_NAME = re.compile(r"vectors-(\d{1,9})\.sqlite")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PAGE = 16384  # bytes; two vectors of 512 values do not fit into SQLite's usual 4096
_AT_ONCE = 500  # parameters of one SQL statement
_PATIENCE = 30.0  # seconds to wait for another process
_RECENT = 60.0  # seconds within which reading again need not be written down


class EmbeddingCache:
    """A folder of vectors by key, the least recently used dropped above `limit` bytes.

    May be shared by threads and processes, forked ones too.
    """

    def __init__(self, folder: Path | str, limit: int = 2 * 1024**3) -> None:
        if limit < 1:
            raise ConfigError(f"a cache needs a limit of at least 1 byte, got {limit}.")
        self.folder = Path(folder)
        self.limit = limit
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None  # a forked child's, from its parent
        self._owner = os.getpid()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._number = self._newest()
        except OSError as error:
            raise StorageError(
                f"the cache folder {folder} cannot be made: {error.strerror}; pass a folder you "
                "may write to, or no cache."
            ) from None
        self._guarded(lambda _: None)

    @property
    def path(self) -> Path:
        """The file in use."""
        return self.folder / f"vectors-{self._number}.sqlite"

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The vectors that are there; damaged ones are dropped and count as absent."""
        return self._guarded(lambda file: _get(file, keys)) if keys else {}

    def put(self, vectors: Mapping[bytes, Vector]) -> None:
        """Store all of `vectors`, or none of them if the process dies meanwhile."""
        if vectors:
            self._guarded(lambda file: _put(file, vectors, self.limit))

    def __len__(self) -> int:
        return self._guarded(_count)

    def close(self) -> None:
        """Close the file; using the cache opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _guarded(self, action: Callable[[sqlite3.Connection], R]) -> R:
        """Run `action`; if the file turns out damaged, once more on its successor."""
        with self._lock:
            try:
                try:
                    return action(self._open())
                except sqlite3.DatabaseError as error:
                    if _code(error) not in _DAMAGED:  # locked, full, forbidden
                        raise
                    self._move_on()
                    return action(self._open())
            except (sqlite3.Error, OSError) as error:
                raise StorageError(
                    f"the cache {self.path} cannot be used: {error}; check its permissions and "
                    "the free space, or load without a cache."
                ) from None

    def _open(self) -> sqlite3.Connection:
        if self._owner != os.getpid():  # a parent's file is neither used nor closed
            self._inherited, self._connection = self._connection, None
            self._owner = os.getpid()
        if self._connection is None:
            self._connection = _connect(self.path)
        return self._connection

    def _move_on(self) -> None:
        """Leave the damaged file for inspection; another process may have begun its successor."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        before, newest = self._number, self._newest()
        self._number = newest if newest > before else before + 1
        for suffix in ("", "-wal", "-shm"):  # of the one damaged before: at most two files stay
            (self.folder / f"vectors-{before - 1}.sqlite{suffix}").unlink(missing_ok=True)

    def _newest(self) -> int:
        names = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return max((int(name[1]) for name in names if name), default=1)


def key_of(exact: str, kind: str, content: bytes) -> bytes:
    """The key of one item: its content under a model's exact fingerprint."""
    return hashlib.sha256(b"\0".join([exact.encode(), kind.encode(), content])).digest()


def _connect(path: Path) -> sqlite3.Connection:
    """An open file with its table; waits for other processes that make it at the same time."""
    connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
    until = time.monotonic() + _PATIENCE
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")  # gives up at once when busy
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = NORMAL")
        for statement in _SCHEMA:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 for errors of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _get(file: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Vector]:
    found: dict[bytes, Vector] = {}
    damaged: list[bytes] = []
    seen: list[bytes] = []  # last used a while ago
    now = time.time()
    for start in range(0, len(keys), _AT_ONCE):
        some = keys[start : start + _AT_ONCE]
        marks = ",".join("?" * len(some))
        query = f"SELECT key, used, digest, vector FROM vectors WHERE key IN ({marks})"
        for key, used, digest, vector in file.execute(query, some):
            if _digest(key, vector) != digest:
                damaged.append(key)
                continue
            found[key] = np.frombuffer(vector, dtype="<f4").copy()
            if abs(now - used) > _RECENT:
                seen.append(key)
    if damaged or seen:
        with file:
            _many(file, "DELETE FROM vectors WHERE key = ?", ((key,) for key in damaged))
            _many(file, "UPDATE vectors SET used = ? WHERE key = ?", ((now, key) for key in seen))
    return found


def _put(file: sqlite3.Connection, vectors: Mapping[bytes, Vector], limit: int) -> None:
    now = time.time()
    data = {key: np.asarray(vector, dtype="<f4").tobytes() for key, vector in vectors.items()}
    rows = ((key, now, _digest(key, vector), vector) for key, vector in data.items())
    with file:
        _many(file, "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
        _evict(file, limit)


def _evict(file: sqlite3.Connection, limit: int) -> None:
    """Drop the least recently used rows once the limit is passed, down to nine tenths."""
    size = _bytes_in_use(file)
    if size > limit:
        count = _count(file)
        keep = int(count * 0.9 * limit / size)
        file.execute(
            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors ORDER BY used LIMIT ?)",
            (count - keep,),
        )


def _bytes_in_use(file: sqlite3.Connection) -> int:
    """Of the file, pages that deleted rows left free not counted."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (file.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)


def _count(file: sqlite3.Connection) -> int:
    return int(file.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])


def _many(file: sqlite3.Connection, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    file.executemany(statement, rows)


def _digest(key: bytes, vector: bytes) -> bytes:
    return hashlib.blake2b(key + vector, digest_size=8).digest()
