"""A8, A10: several processes and handles use one store; a forked one is refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ecliptic.errors import StorageError
from ecliptic.index import open_store
from ecliptic.index.lance import store as lance_store, table
from ecliptic.index.lance.table import LanceTable
from ecliptic.storage import WriterLock
from tests.index.rows import SCHEMA, content, put, small_store

ROOT = Path(__file__).parents[2]


def start(script: str, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, given)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


UPSERTS = """
import sys
from pathlib import Path
from ecliptic.index import open_store
from tests.index.rows import SCHEMA, random_vectors
folder, own = sys.argv[1], int(sys.argv[2])
store = open_store(folder, SCHEMA)  # both make it
for batch in range(10):
    ids = [f"{batch}-{row}" for row in range(5)] + [f"only {own}-{batch}"]
    store.upsert(ids, random_vectors(6, batch), {"size": [own] * 6})
"""


def test_a8_two_processes_store_the_same_new_ids(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    writers = [start(UPSERTS, folder, own) for own in range(2)]
    for writer in writers:
        _, errors = writer.communicate(timeout=300)
        assert writer.returncode == 0, errors[-2000:]
    store = open_store(folder, SCHEMA)
    rows = content(store)  # it refuses an id that is there twice
    assert len(rows) == len(store) == 70
    assert store.check(deep=True) == []


def test_a8_a_writer_waits_for_another_one_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path)
    monkeypatch.setattr(table, "WAIT", 0.1)
    with WriterLock(tmp_path / "writer.lock").hold(1):
        with pytest.raises(StorageError, match=r"another process, which .* within 0\.1 seconds"):
            put(store, 100, 1)
        assert len(store.search(np.ones(8), 3).hits[0].ids) == 3  # readers do not wait
    put(store, 100, 1)
    assert len(store) == 16


def compact_elsewhere(folder: Path) -> None:
    """Join all files and remove all old versions at once."""
    LanceTable(folder).compact(kept=timedelta(0))


def test_a10_a_reader_goes_on_after_its_version_was_removed(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    wanted = [store.search(np.ones(8), 7, exact=exact).hits[0].ids for exact in (False, True)]
    for _ in range(2):
        compact_elsewhere(tmp_path)
        put(open_store(tmp_path), 0, 5)
        found = [store.search(np.ones(8), 7, exact=exact).hits[0].ids for exact in (False, True)]
        assert found == wanted
        assert len(content(store)) == len(store) == 15


def test_a10_files_that_vanish_while_they_are_searched_are_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = small_store(tmp_path)
    wanted = store.search(np.ones(8), 7, "size > 3").hits[0].ids
    reader, calls = open_store(tmp_path), list[int]()
    search = lance_store.search_view

    def compact_first(*given: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            compact_elsewhere(tmp_path)
        return search(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(lance_store, "search_view", compact_first)
    assert reader.search(np.ones(8), 7, "size > 3").hits[0].ids == wanted
    assert len(calls) == 2


def test_a10_a_long_read_whose_files_vanish_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_store, "_AT_ONCE", 2)
    store = small_store(tmp_path)
    blocks = store.read(where="size >= 0", vectors=True)
    next(blocks)
    compact_elsewhere(tmp_path)
    with pytest.raises(StorageError, match="begin again"):
        list(blocks)
    assert len(content(store)) == 15


@pytest.mark.parametrize("where", [None, "size >= 0"])
def test_a_read_stays_at_its_version_while_the_same_store_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str | None
) -> None:
    monkeypatch.setattr(lance_store, "_AT_ONCE", 2)
    store = small_store(tmp_path)
    blocks = store.read(where=where)
    rows = next(blocks).rows()
    store.delete(["row-0", "row-4", "row-9"])
    put(store, 100, 5)
    store.compact()
    rows += [row for block in blocks for row in block.rows()]
    assert {row["id"]: row["size"] for row in rows} == {f"row-{n}": n for n in range(15)}


def test_threads_that_share_a_store_see_whole_versions(tmp_path: Path) -> None:
    store = small_store(tmp_path)

    def write() -> None:
        for round_ in range(8):
            put(store, 0, 15)
            store.delete(["row-3", "row-8"])
            if round_ % 4 == 3:
                store.compact()

    def look(exact: bool) -> int:
        looks = 0
        while not writing.done():
            (hits,) = store.search(np.ones(8), 20, "size < 15", ["size"], exact=exact).hits
            assert [f"row-{size}" for size in hits.columns["size"]] == list(hits.ids)
            assert len(hits.ids) in (13, 15)
            assert len(content(store)) in (13, 15)
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        writing = pool.submit(write)
        looking = [pool.submit(look, exact) for exact in (False, True)]
        writing.result()
        assert all(one.result() > 0 for one in looking)


FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore")
from ecliptic.errors import StorageError
from ecliptic.index import check_store, open_store
store = open_store(sys.argv[1])
len(store)
child = os.fork()
if not child:
    calls = [lambda: len(store), lambda: store.upsert(["a"], [[1.0] * 8]),
             lambda: open_store(sys.argv[1]), lambda: list(store.read()), store.compact]
    for call in calls:
        try:
            call()
        except StorageError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(store))
"""


def test_a_forked_process_is_refused(tmp_path: Path) -> None:
    small_store(tmp_path)
    ran = start(FORKS, tmp_path)
    out, errors = ran.communicate(timeout=120)
    assert ran.returncode == 0, errors
    *refusals, count = out.splitlines()
    assert count == "15"
    assert len(refusals) == 5
    assert all("forked" in line and "method `spawn`" in line for line in refusals)
