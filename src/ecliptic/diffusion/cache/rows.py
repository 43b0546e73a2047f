"""The tables of an index of a cache folder, in which each row has a checksum.

`index.py` says what the rows mean. A row that does not match its checksum, or that no version of
the index wrote, is damage: the database then takes a new file.
"""

import hashlib
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Any

from ecliptic.storage import Connection, DamagedRowError, Schema, select

IndexRow = tuple[Any, ...]
SCHEMA = Schema(
    name="index",
    statements=(
        "CREATE TABLE shards (number INTEGER PRIMARY KEY, size INTEGER NOT NULL, stamp INTEGER"
        " NOT NULL, identity BLOB, problem BLOB, sum BLOB NOT NULL)",  # the last known identity
        "CREATE TABLE entries (key BLOB PRIMARY KEY, shard INTEGER NOT NULL, sum BLOB NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE names (name BLOB PRIMARY KEY, key BLOB NOT NULL, shard INTEGER NOT NULL,"
        " sum BLOB NOT NULL) WITHOUT ROWID",  # `name` is the key that it would have as a prompt
        "CREATE TABLE lost (name BLOB, id INTEGER, shard INTEGER NOT NULL, sum BLOB NOT NULL,"
        " PRIMARY KEY (name, id)) WITHOUT ROWID",  # `id` is 1 for the id of a caption, 0 for a key
        "CREATE TABLE claims (key BLOB PRIMARY KEY, owner BLOB NOT NULL, sum BLOB NOT NULL)"
        " WITHOUT ROWID",
    ),
    patience=600.0,  # another process may be writing a large shard
    in_memory_if_read_only=True,
)
SHARD_TABLES = ("shards", "entries", "names")  # all that is rebuilt from the shards
_COLUMNS = {
    "shards": "number, size, stamp, identity, problem",
    "entries": "key, shard",
    "names": "name, key, shard",
    "lost": "name, id, shard",
    "claims": "key, owner",
}
_KINDS: dict[str, tuple[type | UnionType, ...]] = {
    "shards": (int, int, int, bytes | None, bytes | None),
    "entries": (bytes, int),
    "names": (bytes, bytes, int),
    "lost": (bytes, int, int),
    "claims": (bytes, bytes),
}
_INSERT = {
    "shards": "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)",
    "entries": "INSERT OR IGNORE INTO entries VALUES (?, ?, ?)",  # the first shard of a key
    "names": "INSERT INTO names VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
    " key = excluded.key, shard = excluded.shard, sum = excluded.sum"
    " WHERE excluded.shard >= names.shard",  # the last shard of an id
    "lost": "INSERT OR REPLACE INTO lost VALUES (?, ?, ?, ?)",
    "claims": "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
}


def write_rows(file: Connection, table: str, rows: Iterable[IndexRow]) -> None:
    """Write rows with their checksums."""
    file.executemany(_INSERT[table], ((*row, sum_row(table, row)) for row in rows))


def select_rows(
    file: Connection, table: str, column: str, values: Sequence[bytes]
) -> list[IndexRow]:
    """The rows whose `column` is one of `values`."""
    query = f"SELECT {_COLUMNS[table]}, sum FROM {table} WHERE {column} IN"
    return _check(table, select(file, query, values))


def select_where(
    file: Connection, table: str, where: str = "TRUE", values: Iterable[object] = ()
) -> list[IndexRow]:
    """The rows for which `where` holds."""
    query = f"SELECT {_COLUMNS[table]}, sum FROM {table} WHERE {where}"
    return _check(table, file.gather(file.execute(query, tuple(values))))


def sum_row(table: str, row: IndexRow) -> bytes:
    """The checksum of a row."""
    return hashlib.blake2b(repr((table, *row)).encode(), digest_size=16).digest()


def _check(table: str, rows: list[IndexRow]) -> list[IndexRow]:
    """The rows without their checksums, which must be right."""
    if any(sum_row(table, row[:-1]) != row[-1] for row in rows):
        raise DamagedRowError(f"a row of {table} does not match its checksum")
    if not all(all(map(isinstance, row, _KINDS[table])) for row in rows):
        raise DamagedRowError(f"a row of {table} has other types than were written")
    return [row[:-1] for row in rows]
