"""The cache returns what was stored, stays small, and survives kills, sharing and damage."""

import itertools
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
from ecliptic.errors import ConfigError, StorageError

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


def start_writer(folder: Path, first: int, batches: int) -> subprocess.Popen[str]:
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


def test_the_least_recently_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1e9, 100)  # seconds
    monkeypatch.setattr(time, "time", lambda: next(clock))
    cache = EmbeddingCache(tmp_path, limit=400_000)
    for start in range(0, 300, 25):
        cache.put(some(*range(start, start + 25), size=1000))  # 100 kB
        assert key(0) in cache.get([key(0)])
    assert 40 < len(cache) < 100
    assert set(cache.get([key(0), key(1), key(299)])) == {key(0), key(299)}
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 6_000_000
    cache.close()
    assert cache.path.stat().st_size < 600_000


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_at_least_one_byte(tmp_path: Path, limit: int) -> None:
    with pytest.raises(ConfigError, match="limit of at least 1 byte"):
        EmbeddingCache(tmp_path, limit)


def test_a_limit_below_one_batch_keeps_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, limit=1)
    cache.put(some(1, 2))
    assert len(cache) == 0


def test_a5_a_flipped_byte_is_noticed_and_the_entry_made_anew(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(1, 2))
    cache.close()
    path = cache.path
    data = path.read_bytes()
    place = data.index(some(2)[key(2)].tobytes())
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    cache = EmbeddingCache(tmp_path)
    assert set(cache.get([key(1), key(2)])) == {key(1)}
    assert len(cache) == 1
    cache.put(some(2))
    assert set(cache.get([key(2)])) == {key(2)}


DAMAGE = {
    "rubbish": lambda data: b"not a database at all, " * 500,
    "cut": lambda data: data[: len(data) // 2 + 100],
    "header": lambda data: bytes(100) + data[100:],
    "middle": lambda data: data[:16384] + b"\xff" * (len(data) - 16384),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a4_a_damaged_file_is_set_aside_and_rebuilt(tmp_path: Path, damage: str) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(*range(500)))
    cache.close()
    first = cache.path
    first.write_bytes(DAMAGE[damage](first.read_bytes()))
    cache = EmbeddingCache(tmp_path)
    cache.get([key(i) for i in range(500)])
    cache.put(some(1, 2))
    assert set(cache.get([key(1), key(2)])) == {key(1), key(2)}
    assert first.exists()
    assert cache.path.name == "vectors-2.sqlite"
    assert len(EmbeddingCache(tmp_path)) == 2


def test_a_file_damaged_under_several_users_moves_all_of_them_to_one_new_file(
    tmp_path: Path,
) -> None:
    """Removing a file that others have open would let them damage the new file."""
    one = EmbeddingCache(tmp_path)
    one.put(some(*range(500)))
    one.close()
    one.path.write_bytes(DAMAGE["middle"](one.path.read_bytes()))
    one, two = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    assert one.path == two.path == tmp_path / "vectors-1.sqlite"  # it is not noticed yet
    for turn in range(3):
        one.put(some(turn))
        two.put(some(turn + 10))
    one.close()
    two.close()
    three = EmbeddingCache(tmp_path)
    assert one.path == two.path == three.path == tmp_path / "vectors-2.sqlite"
    assert set(three.get([key(i) for i in range(500)])) == {key(i) for i in (0, 1, 2, 10, 11, 12)}


def test_at_most_one_damaged_file_is_kept(tmp_path: Path) -> None:
    for _ in range(4):
        cache = EmbeddingCache(tmp_path)
        cache.put(some(1))
        cache.close()
        cache.path.write_bytes(b"rubbish" * 1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vectors-3.sqlite", "vectors-4.sqlite"]


def test_a1_a_killed_writer_leaves_whole_batches(tmp_path: Path) -> None:
    for round_ in range(4):
        process = start_writer(tmp_path, round_, 10_000)
        assert process.stdout is not None
        for _ in range(3 + 5 * round_):
            done = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        cache = EmbeddingCache(tmp_path)
        for batch in range(done + 1):  # every finished batch is there
            found = cache.get([f"{round_}-{batch}-{i}".encode() for i in range(20)])
            assert len(found) == 20
            assert all((vector == batch).all() for vector in found.values())
        assert len(cache) % 20 == 0  # and no batch is incomplete
        cache.close()
    assert cache.path.name == "vectors-1.sqlite"


def test_processes_share_it(tmp_path: Path) -> None:
    processes = [start_writer(tmp_path, first, 30) for first in (7, 7, 8)]
    assert [process.wait() for process in processes if process.communicate()] == [0, 0, 0]
    cache = EmbeddingCache(tmp_path)
    assert len(cache) == 2 * 30 * 20
    assert cache.path.name == "vectors-1.sqlite"


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
    assert cache._database._connection
    cache._database._connection.execute("PRAGMA busy_timeout = 10")
    other = sqlite3.connect(cache.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match=r"cannot be used: database is locked; check its perm"):
        cache.put(some(2))
    other.execute("ROLLBACK")
    other.close()
    assert set(cache.get([key(1)])) == {key(1)}
    assert cache.path.name == "vectors-1.sqlite"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vectors-1.sqlite")
    with pytest.raises(StorageError, match=r"vectors-1.sqlite cannot be used: it is a pipe"):
        EmbeddingCache(tmp_path)


def test_a_closed_cache_opens_again_where_it_was(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(1))
    cache.close()
    cache.close()
    assert set(cache.get([key(1)])) == {key(1)}
    assert cache.path.name == "vectors-1.sqlite"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put(some(1))
    child = os.fork()
    if not child:
        code = 1
        try:
            mine = cache._database._connection
            cache.put(some(2))
            code = int(cache._database._connection is mine or len(cache) != 2)
        finally:
            os._exit(code)  # the child must never continue with the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    cache.put(some(3))
    assert len(cache) == 3


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be a folder, .*; choose another path"):
        EmbeddingCache(tmp_path / "file" / "cache")
