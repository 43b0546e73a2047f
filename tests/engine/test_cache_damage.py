"""A damaged cache of vectors never gives other vectors, and keeps what is put into it again."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ecliptic.engine import EmbeddingCache
from ecliptic.engine.cache import _digest, key_of
from ecliptic.errors import NumericalError, StorageError
from tests.storage.faults import damage_bytes, flip_bytes, kill_writer

ROWS = {
    key_of("exact", "text", bytes([i])): np.random.default_rng(i).standard_normal(8).astype("f4")
    for i in range(40)
}
FIRST = next(iter(ROWS))
SHORT = np.ones(1, "<f4").tobytes()


def filled(folder: Path) -> Path:
    cache = EmbeddingCache(folder)
    cache.put(ROWS)
    cache.close()
    return cache.path


def check(folder: Path, what: object = "") -> int:
    """Whatever is found is right, and what is put comes back; returns the number found."""
    cache = EmbeddingCache(folder)
    found = cache.get(list(ROWS), 8)
    for key, vector in found.items():
        assert np.array_equal(vector, ROWS[key]), what
    cache.put(ROWS)
    again = cache.get(list(ROWS), 8)
    assert again.keys() == ROWS.keys(), what
    assert all(np.array_equal(again[key], ROWS[key]) for key in ROWS), what
    cache.close()
    return len(found)


def change(*statements: str) -> Callable[[sqlite3.Connection], None]:
    def apply(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return apply


def with_sum(vector: bytes) -> Callable[[sqlite3.Connection], None]:
    """Replace a vector, with a valid checksum."""

    def apply(connection: sqlite3.Connection) -> None:
        values = (vector, _digest(FIRST, vector), FIRST)
        connection.execute("UPDATE vectors SET vector = ?, digest = ? WHERE key = ?", values)

    return apply


RENAME = "ALTER TABLE vectors RENAME TO old"
CHANGES = {
    "vector of another type": change("UPDATE vectors SET vector = 7"),
    "vector as text": change("UPDATE vectors SET vector = 'text'"),
    "text that is not UTF-8": change("UPDATE vectors SET vector = CAST(x'ff80ff' AS TEXT)"),
    "digest that is not UTF-8": change("UPDATE vectors SET digest = CAST(x'ff80ff' AS TEXT)"),
    "key that is not UTF-8": change("UPDATE vectors SET key = CAST(key AS TEXT)"),
    "no keys": change("UPDATE vectors SET key = NULL"),
    "used as text": change("UPDATE vectors SET used = 'long ago'"),
    "used for ever": change("UPDATE vectors SET used = 9e999"),
    "empty vectors": change("UPDATE vectors SET vector = x''"),
    "short vectors": change("UPDATE vectors SET vector = x'0102'"),
    "short with a sum": with_sum(b"abc"),
    "empty with a sum": with_sum(b""),
    "of another width with a sum": with_sum(SHORT),
    "not finite with a sum": with_sum(np.full(8, np.nan, "<f4").tobytes()),
    "swapped": change("UPDATE vectors SET vector = (SELECT max(vector) FROM vectors)"),
    "no table": change("DROP TABLE vectors"),
    "no index": change("DROP INDEX by_use"),
    "a table without rules": change(
        "CREATE TABLE other AS SELECT key, used, digest, NULL AS vector FROM vectors",
        "DROP TABLE vectors",
        "ALTER TABLE other RENAME TO vectors",
    ),
    "other columns": change("DROP TABLE vectors", "CREATE TABLE vectors (a, b)"),
    "one column more": change("ALTER TABLE vectors ADD COLUMN more"),
    "a view": change(RENAME, "CREATE VIEW vectors AS SELECT * FROM old"),
    "a trigger that deletes": change(
        "CREATE TRIGGER t AFTER INSERT ON vectors BEGIN DELETE FROM vectors; END"
    ),
    "a trigger that refuses": change(
        "CREATE TRIGGER t BEFORE INSERT ON vectors BEGIN SELECT RAISE(ABORT, 'no'); END"
    ),
    "a second table": change("CREATE TABLE more (a)"),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("opened", [False, True])
def test_a_changed_database_heals_and_keeps_what_is_put(
    tmp_path: Path, how: str, opened: bool
) -> None:
    path = filled(tmp_path)
    cache = EmbeddingCache(tmp_path)
    if opened:
        cache.get(list(ROWS))
    other = sqlite3.connect(path)
    CHANGES[how](other)
    other.commit()
    other.close()
    for key, vector in cache.get(list(ROWS), 8).items():
        assert np.array_equal(vector, ROWS[key])
    cache.put(ROWS)
    assert cache.get(list(ROWS), 8).keys() == ROWS.keys()
    cache.close()
    assert check(tmp_path) == len(ROWS)


def damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    used = [place for place in range(0, len(data), 16) if any(data[place : place + 16])]
    packed = b"".join(data[place : place + 16] for place in used)  # most of a page is empty
    for what, changed in flip_bytes(packed, seed=1, count=100):
        whole = bytearray(data)
        for number, place in enumerate(used):
            whole[place : place + 16] = changed[16 * number : 16 * number + 16]
        yield what, bytes(whole)
    yield from damage_bytes(data, seed=2, count=40)


def test_a4_a5_a_changed_byte_gives_the_same_vectors_or_none(tmp_path: Path) -> None:
    data = filled(tmp_path / "whole").read_bytes()
    for number, (what, changed) in enumerate(damaged(data)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "vectors-1.sqlite").write_bytes(changed)
        check(folder, what)


WRITER = """
import sys
import numpy as np
from ecliptic.engine import EmbeddingCache
cache, first = EmbeddingCache(sys.argv[1]), sys.argv[2]
for batch in range(100_000):
    cache.put({f"{first}-{batch}-{i}".encode(): np.full(64, batch, np.float32) for i in range(9)})
    print(f"{first}-{batch}", flush=True)
"""


def test_a1_what_a_killed_writer_acknowledged_is_there(tmp_path: Path) -> None:
    check_killed_writers(tmp_path, rounds=2, seed=0)


def check_killed_writers(folder: Path, *, rounds: int, seed: int) -> None:
    """Every acknowledged vector is there after each kill."""
    for done in kill_writer(WRITER, str(folder), rounds=rounds, seed=seed):
        cache = EmbeddingCache(folder)
        for batch in done:
            found = cache.get([f"{batch}-{i}".encode() for i in range(9)])
            assert len(found) == 9
            assert all((row == float(batch.split("-")[1])).all() for row in found.values())
        assert len(cache) % 9 == 0
        assert cache.path.name == "vectors-1.sqlite"
        cache.close()


def test_a14_vectors_that_are_no_numbers_are_not_stored(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    with pytest.raises(NumericalError, match="it is not stored"):
        cache.put({FIRST: np.array([1, np.inf], np.float32)})
    assert len(cache) == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_in_place_of_the_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vectors-1.sqlite")
    with pytest.raises(StorageError, match=r"it is a pipe \(FIFO\), not a regular file"):
        EmbeddingCache(tmp_path)


def test_a_file_of_the_highest_number_is_no_end(tmp_path: Path) -> None:
    (tmp_path / f"vectors-{10**9 - 1}.sqlite").write_bytes(b"no database" * 100)
    check(tmp_path)
    assert (tmp_path / f"vectors-{10**9}.sqlite").exists()
