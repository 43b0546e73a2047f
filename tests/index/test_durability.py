"""A11, A12, A13, A19: what is acknowledged is on the disk, and many small writes stay cheap."""

import os
import re
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ecliptic.errors import StorageError
from ecliptic.index import open_store
from ecliptic.index.lance import checksums, table
from ecliptic.index.lance.table import LanceTable, manifests
from tests.index.rows import SCHEMA, content, put, random_vectors, small_store

ROOT = Path(__file__).parents[2]


def table_files(folder: Path) -> set[str]:
    files = (folder / "table.lance").rglob("*")
    return {str(path) for path in files if path.is_file() and path.name != checksums.HINT}


def test_a11_each_file_is_synced_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path, batches=1)
    synced, sync = list[str](), os.fsync

    def watch(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        assert len(manifests(tmp_path)) == count + 1, "synced before it was committed"
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    for write in (lambda: put(store, 5, 5), lambda: store.delete(["row-1"])):
        before, count = table_files(tmp_path), len(manifests(tmp_path))
        synced.clear()
        write()
        new = table_files(tmp_path) - before
        assert len(new) >= 3  # data or deletions, transaction, manifest
        folders = {str(Path(path).parent) for path in new} | {str(tmp_path / "table.lance")}
        assert new | folders <= set(synced)
        assert synced[-1] == str(tmp_path / "checksums.jsonl")


ONE_UPSERT = """
import os, sys
from ecliptic.index import open_store
from tests.index.rows import put
store = open_store(sys.argv[1])
put(store, 100, 1)
os.write(1, b"ACKNOWLEDGED")
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a11_the_system_is_asked_to_sync_before_the_call_returns(tmp_path: Path) -> None:
    small_store(tmp_path / "store", batches=1)
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write,rename,renameat,renameat2,link,linkat"
    command = ["strace", "-f", "-y", "-s", "200", "-e", calls, "-o", str(trace), sys.executable]
    script = [*command, "-c", ONE_UPSERT, str(tmp_path / "store")]
    subprocess.run(script, check=True, cwd=ROOT, capture_output=True)
    lines = trace.read_text().splitlines()
    commit = max(n for n, line in enumerate(lines) if re.search(r"(link|rename).*\.manifest", line))
    end = next(n for n, line in enumerate(lines) if "ACKNOWLEDGED" in line)
    synced = [line for line in lines[commit:end] if "fsync(" in line]
    for name in (r"\.manifest>", r"/data/\w+\.lance>", r"\.txn>", r"checksums\.jsonl>"):
        assert any(re.search(name, line) for line in synced), name


def test_a11_rows_that_could_not_be_synced_are_told_and_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path)

    def fail(*_: object) -> None:
        raise StorageError("the disk reports an error.")

    with monkeypatch.context() as patch:
        patch.setattr(table, "sync_files", fail)
        with pytest.raises(StorageError, match="were written, but a power cut may still take"):
            put(store, 15, 5)
    assert len(store) == 20
    written = store.upsert(["row-15", "new"], random_vectors(2, 0))
    assert (written.added, written.replaced) == (1, 1)
    assert store.check(deep=True) == []
    known = checksums.Checksums(tmp_path)
    known.refresh()
    assert not known.unrecorded()


def memory() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a12_a13_tiny_commits_leave_few_files_and_little_memory(tmp_path: Path) -> None:
    store = open_store(tmp_path, SCHEMA)
    for number in range(100):
        put(store, number, 1)
    before = memory()
    for number in range(100, 300):
        put(store, number, 1)
    assert memory() - before < 64 << 20
    assert len(store) == 300
    assert len(store._table.newest().get_fragments()) <= table.MOST_FRAGMENTS  # type: ignore[attr-defined]
    assert len(manifests(tmp_path)) <= table.MOST_VERSIONS
    assert len(table_files(tmp_path)) <= 4 * table.MOST_VERSIONS
    assert len((tmp_path / "checksums.jsonl").read_text().splitlines()) <= table.MOST_VERSIONS + 1
    start = time.process_time()
    assert len(open_store(tmp_path)) == 300
    assert time.process_time() - start < 1
    assert store.check(deep=True) == []


def test_a12_many_deletions_leave_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MOST_VERSIONS", 10)
    store = open_store(tmp_path, SCHEMA)
    put(store, 0, 60)
    for number in range(50):
        store.delete([f"row-{number}"])
        store.search(np.ones(8), 1)
        assert len(manifests(tmp_path)) <= 11
    assert set(content(store)) == {f"row-{number}" for number in range(50, 60)}
    assert len(table_files(tmp_path)) <= 44
    assert len(list(tmp_path.glob("codes/*"))) <= 2


def test_a12_rows_are_stored_though_small_files_cannot_be_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MOST_FRAGMENTS", 2)
    store = small_store(tmp_path, batches=2)

    def fail(self: LanceTable) -> None:
        raise StorageError("the disk is full.")

    monkeypatch.setattr(LanceTable, "_join", fail)
    with pytest.warns(UserWarning, match="could not be joined, but all rows are stored: the disk"):
        put(store, 10, 5)
    assert len(store) == 15


@pytest.mark.parametrize("when", [0.0, 4e9])
def test_a19_times_of_files_far_off_change_nothing(tmp_path: Path, when: float) -> None:
    store = small_store(tmp_path)
    before = content(store)
    for path in tmp_path.rglob("*"):
        os.utime(path, (when, when))
    for again in (store, open_store(tmp_path)):
        assert content(again) == before
        assert len(again.search(np.ones(8), 4, "size > 3").hits[0].ids) == 4
    assert store.check(deep=True) == []
    store.compact()
    put(store, 15, 5)
    assert content(store).items() > before.items()


def test_a19_versions_that_never_grow_old_are_removed_by_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that were written while the clock was years ahead."""
    monkeypatch.setattr(table, "MOST_VERSIONS", 6)
    monkeypatch.setattr(table, "KEPT", timedelta(days=9999))
    store = small_store(tmp_path, batches=20, count=1)
    assert len(manifests(tmp_path)) <= 7
    assert len(content(store)) == 20
