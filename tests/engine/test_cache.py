"""The cache gives back what was put, stays bounded, and survives kills, company and damage."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ecliptic.engine import EmbeddingCache
from ecliptic.engine.cache import key_of
from ecliptic.errors import StorageError

WRITER = """
import sys
import numpy as np
from ecliptic.engine import EmbeddingCache
cache, first = EmbeddingCache(sys.argv[1]), int(sys.argv[2])
for batch in range(int(sys.argv[3])):
    cache.put({f"{first}-{batch}-{i}".encode(): np.full(64, batch, np.float32) for i in range(20)})
    print(batch, flush=True)
"""


def key(i: int) -> bytes:
    return key_of("exact", "text", str(i).encode())


def some(*numbers: int, size: int = 8) -> dict[bytes, np.ndarray]:
    return {key(i): np.full(size, i, dtype=np.float32) for i in numbers}


def writer(folder: Path, first: int, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(first), str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_vectors_come_back_bit_for_bit(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)
    cache = EmbeddingCache(tmp_path / "new" / "folder")
    cache.put({key(i): row for i, row in enumerate(rows)})
    found = EmbeddingCache(tmp_path / "new" / "folder").get([key(i) for i in range(1300)])
    assert len(found) == len(cache) == 1200
    for i, row in enumerate(rows):
        assert found[key(i)].tobytes() == row.tobytes()
    assert cache.get([]) == {}


def test_keys_tell_model_kind_and_content_apart() -> None:
    keys = {key_of(e, k, c) for e in ("a", "b") for k in ("text", "image") for c in (b"x", b"y")}
    assert len(keys) == 8


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, limit=400_000)
    cache.put(some(*range(50), size=1000))  # 200 kB
    time.sleep(0.01)
    cache.get([key(0)])
    for start in range(50, 300, 25):
        time.sleep(0.01)
        cache.get([key(0)])
        cache.put(some(*range(start, start + 25), size=1000))
    assert 40 < len(cache) < 100
    assert set(cache.get([key(0), key(1), key(299)])) == {key(0), key(299)}
    cache.close()
    assert (tmp_path / "vectors.sqlite").stat().st_size < 800_000


def test_a_flipped_byte_is_noticed_and_the_entry_made_anew(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(1, 2))
    cache.close()
    path = tmp_path / "vectors.sqlite"
    data = path.read_bytes()
    place = data.index(some(2)[key(2)].tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    cache = EmbeddingCache(tmp_path)
    assert set(cache.get([key(1), key(2)])) == {key(1)}
    assert len(cache) == 1
    cache.put(some(2))
    assert set(cache.get([key(2)])) == {key(2)}


@pytest.mark.parametrize("damage", ["rubbish", "cut", "header", "middle"])
def test_a_damaged_file_is_set_aside_and_rebuilt(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(*range(500)))
    cache.close()
    path = tmp_path / "vectors.sqlite"
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(
        {
            "rubbish": b"not a database at all, " * 500,
            "cut": data[: half + 100],
            "header": bytes(100) + data[100:],
            "middle": data[:4096] + b"\xff" * (len(data) - 4096),
        }[damage]
    )
    cache = EmbeddingCache(tmp_path)
    cache.get([key(i) for i in range(500)])
    cache.put(some(1, 2))
    assert set(cache.get([key(1), key(2)])) == {key(1), key(2)}
    assert (tmp_path / "vectors.sqlite.damaged").exists()
    assert len(EmbeddingCache(tmp_path)) == 2


def test_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    for round_ in range(4):
        process = writer(tmp_path, round_, 10_000)
        assert process.stdout is not None
        for _ in range(3 + 5 * round_):
            done = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        cache = EmbeddingCache(tmp_path)
        for batch in range(done + 1):  # what was acknowledged is there
            found = cache.get([f"{round_}-{batch}-{i}".encode() for i in range(20)])
            assert len(found) == 20
            assert all((vector == batch).all() for vector in found.values())
        assert len(cache) % 20 == 0  # and nothing is there by half
        cache.close()
    assert not (tmp_path / "vectors.sqlite.damaged").exists()


def test_two_processes_share_it(tmp_path: Path) -> None:
    processes = [writer(tmp_path, 7, 30), writer(tmp_path, 7, 30), writer(tmp_path, 8, 30)]
    assert [process.wait() for process in processes if process.communicate()] == [0, 0, 0]
    assert len(EmbeddingCache(tmp_path)) == 2 * 30 * 20


def test_threads_share_it(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    wrong: list[int] = []

    def work(first: int) -> None:
        for i in range(first, first + 20):
            cache.put(some(i))
            if not (cache.get([key(i)])[key(i)] == i).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) == 80


def test_a_busy_or_forbidden_file_is_never_taken_for_damage(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(1))
    cache._connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(tmp_path / "vectors.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match=r"cannot be used: database is locked; check its perm"):
        cache.put(some(2))
    other.execute("ROLLBACK")
    other.close()
    assert set(cache.get([key(1)])) == {key(1)}
    assert not (tmp_path / "vectors.sqlite.damaged").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be made: .*; pass a folder you may write to"):
        EmbeddingCache(tmp_path / "file" / "cache")
