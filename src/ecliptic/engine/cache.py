"""An opt-in, bounded cache of vectors on disk: nothing is encoded twice, and processes share it.

One SQLite file that repairs itself: a write is complete or absent, also after a kill, and several
processes may use it at once. A key is the SHA-256 of an item's content and of the model's exact
fingerprint. Every row has a checksum of its key and vector: damaged rows are deleted and count as
missing.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError
from ecliptic.storage import (
    Connection,
    DamagedRowError,
    HealingDatabase,
    Schema,
    make_folder,
    select,
    transaction,
)

Vector = NDArray[np.float32]

_SCHEMA = Schema(
    name="vectors",
    statements=(  # `used` has an index of its own: evicting must not read the vectors
        "CREATE TABLE vectors (key BLOB PRIMARY KEY, used REAL NOT NULL,"
        " digest BLOB NOT NULL, vector BLOB NOT NULL)",
        "CREATE INDEX by_use ON vectors (used)",
    ),
    page_size=16384,  # two vectors of 512 values do not fit into SQLite's usual 4096
    write_ahead=True,
    advice=", or load without a cache",
)
_SELECT = "SELECT key, used, digest, vector FROM vectors WHERE key IN"
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

    def get(self, keys: Sequence[bytes], width: int | None = None) -> dict[bytes, Vector]:
        """The vectors found for `keys`; damaged entries are deleted and count as missing.

        Args:
            keys: of `key_of`.
            width: of the vectors; an entry of another width counts as damaged. None: any.

        Raises:
            StorageError: the file cannot be used.
        """
        return self._database.run(_get, keys, width) if keys else {}

    def put(self, vectors: Mapping[bytes, Vector]) -> None:
        """Store all of `vectors`, or none of them if the process dies.

        Raises:
            NumericalError: one holds NaN or infinity; nothing is stored.
            StorageError: the file cannot be used.
        """
        for key, vector in vectors.items():
            check_finite(vector, f"the vector of {key[:6].hex()}", "it is not stored.")
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


def _get(connection: Connection, keys: Sequence[bytes], width: int | None) -> dict[bytes, Vector]:
    found: dict[bytes, Vector] = {}
    stale: list[bytes] = []  # not used in the last seconds
    now = time.time()
    rows = select(connection, _SELECT, keys)
    for key, used, digest, data in rows:
        vector = _read_vector(key, digest, data, width)
        if vector is None or not isinstance(used, int | float):
            continue
        found[key] = vector
        if abs(now - used) > _RECENT:
            stale.append(key)
    if stale or len(rows) > len(found):
        with transaction(connection):
            _remove(connection, [key for key, *_ in rows if key not in found])
            connection.executemany(
                "UPDATE vectors SET used = ? WHERE key = ?", [(now, key) for key in stale]
            )
    return found


def _read_vector(key: object, digest: object, data: object, width: int | None) -> Vector | None:
    """The vector in the columns of a row; None if they are not what `_put` writes."""
    if not isinstance(key, bytes) or not isinstance(data, bytes) or not data or len(data) % 4:
        return None
    if _digest(key, data) != digest:
        return None
    vector = np.frombuffer(data, dtype="<f4").copy()
    return vector if width in (None, len(vector)) and np.isfinite(vector).all() else None


def _remove(connection: Connection, keys: list[bytes]) -> None:
    """Delete damaged rows, and make sure that they are gone."""
    if not all(isinstance(key, bytes) for key in keys):
        raise DamagedRowError("a key is not what was written")
    connection.executemany("DELETE FROM vectors WHERE key = ?", [(key,) for key in keys])
    if select(connection, _SELECT, keys):
        raise DamagedRowError("damaged rows cannot be deleted")


def _put(connection: Connection, vectors: Mapping[bytes, Vector], limit: int) -> None:
    now = time.time()
    data = {key: np.asarray(vector, dtype="<f4").tobytes() for key, vector in vectors.items()}
    rows = [(key, now, _digest(key, vector), vector) for key, vector in data.items()]
    with transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?)", rows)
        stored = select(connection, _SELECT, list(data))
        if len(stored) != len(rows) or {*stored} != {*rows}:
            raise DamagedRowError("rows are not found where they were written")
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
    if not 0 <= free <= pages:
        raise DamagedRowError(f"{free} of its {pages} pages are said to be free")
    return int((pages - free) * size)


def _count(connection: Connection) -> int:
    return int(connection.execute("SELECT COUNT(key) FROM vectors").fetchone()[0])


def _digest(key: bytes, vector: bytes) -> bytes:
    return hashlib.blake2b(key + vector, digest_size=16).digest()
