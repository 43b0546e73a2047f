"""An opt-in, bounded cache of vectors on disk: nothing is encoded twice, and processes share it.

One SQLite file that repairs itself: a write is complete or absent, also after a kill, and several
processes may use it at once. A key is the SHA-256 of an item's content and of the model's exact
fingerprint.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ConfigError
from ecliptic.storage import Connection, HealingDatabase, Schema, make_folder, select, transaction

Vector = NDArray[np.float32]

_SCHEMA = Schema(
    name="vectors",
    statements=(  # `used` has an index of its own: evicting must not read the vectors
        "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, used REAL NOT NULL,"
        " digest BLOB NOT NULL, vector BLOB NOT NULL)",
        "CREATE INDEX IF NOT EXISTS by_use ON vectors (used)",
    ),
    page_size=16384,  # two vectors of 512 values do not fit into SQLite's usual 4096
    write_ahead=True,
    advice=", or load without a cache",
)
_RECENT = 60.0  # seconds; a second read within them is not recorded


class EmbeddingCache:
    """Vectors by key in a folder; above `limit` bytes the least recently used are deleted.

    May be shared by threads and processes, forked ones too.
    """

    def __init__(self, folder: Path | str, limit: int = 2 * 1024**3) -> None:
        if limit < 1:
            raise ConfigError(f"a cache needs a limit of at least 1 byte, got {limit}.")
        self.folder = Path(folder)
        self.limit = limit
        make_folder(self.folder)
        self._database = HealingDatabase(self.folder, _SCHEMA)
        self._database.run(lambda _: None)  # find an unusable folder now, not while encoding

    @property
    def path(self) -> Path:
        """The file in use."""
        return self._database.path

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vector]:
        """The vectors found for `keys`; damaged entries are deleted and count as missing."""
        return self._database.run(_get, keys) if keys else {}

    def put(self, vectors: Mapping[bytes, Vector]) -> None:
        """Store all of `vectors`, or none of them if the process dies."""
        if vectors:
            self._database.run(_put, vectors, self.limit)

    def __len__(self) -> int:
        return self._database.run(_count)

    def close(self) -> None:
        """Close the file; using the cache opens it again."""
        self._database.close()


def key_of(exact: str, kind: str, content: bytes) -> bytes:
    """The key of one item: its content under a model's exact fingerprint."""
    return hashlib.sha256(b"\0".join([exact.encode(), kind.encode(), content])).digest()


def _get(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, Vector]:
    found: dict[bytes, Vector] = {}
    damaged: list[bytes] = []
    stale: list[bytes] = []  # not used in the last seconds
    now = time.time()
    query = "SELECT key, used, digest, vector FROM vectors WHERE key IN"
    for key, used, digest, vector in select(connection, query, keys):
        if _digest(key, vector) != digest:
            damaged.append(key)
            continue
        found[key] = np.frombuffer(vector, dtype="<f4").copy()
        if abs(now - used) > _RECENT:
            stale.append(key)
    if damaged or stale:
        with transaction(connection):
            connection.executemany("DELETE FROM vectors WHERE key = ?", [(k,) for k in damaged])
            connection.executemany(
                "UPDATE vectors SET used = ? WHERE key = ?", [(now, key) for key in stale]
            )
    return found


def _put(connection: Connection, vectors: Mapping[bytes, Vector], limit: int) -> None:
    now = time.time()
    data = {key: np.asarray(vector, dtype="<f4").tobytes() for key, vector in vectors.items()}
    rows = [(key, now, _digest(key, vector), vector) for key, vector in data.items()]
    with transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
        _evict(connection, limit)


def _evict(connection: Connection, limit: int) -> None:
    """Above the limit, delete the least recently used rows down to 90 % of it."""
    size = _bytes_in_use(connection)
    if size > limit:
        count = _count(connection)
        keep = int(count * 0.9 * limit / size)
        connection.execute(
            "DELETE FROM vectors WHERE rowid IN (SELECT rowid FROM vectors ORDER BY used LIMIT ?)",
            (count - keep,),
        )


def _bytes_in_use(connection: Connection) -> int:
    """Bytes of the file without the free pages that deleted rows leave."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)


def _count(connection: Connection) -> int:
    return int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])


def _digest(key: bytes, vector: bytes) -> bytes:
    return hashlib.blake2b(key + vector, digest_size=8).digest()
