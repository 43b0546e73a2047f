"""A1, A2: a writer that is killed at any moment loses nothing that was acknowledged."""

from pathlib import Path

import pytest

from ecliptic.index import Store, open_store
from tests.index.rows import content
from tests.storage.faults import kill_writer

# Batches of 3 new rows and one that all batches replace. Each fourth batch is deleted again.
WRITER = """
import sys
import numpy as np
from ecliptic.index import StoreSchema, open_store
from ecliptic.index.lance import table
table.MOST_FRAGMENTS, table.MOST_VERSIONS = 4, 12  # files are joined and removed all the time
folder, compacts, number = sys.argv[1], sys.argv[2] == "compact", int(sys.argv[3])
store = open_store(folder, StoreSchema(4, {"batch": "int", "round": "int"}))
for batch in range(100_000):
    ids = [f"{number}-{batch}-{row}" for row in range(3)] + ["shared"]
    vectors = np.random.default_rng(batch).normal(size=(4, 4))
    store.upsert(ids, vectors, {"batch": [batch] * 4, "round": [number] * 4})
    print("stored", batch, flush=True)
    if batch % 4 == 3:
        assert store.delete(where=f"round = {number} and batch = {batch - 1}") == 3
        print("deleted", batch - 1, flush=True)
    if compacts:
        store.compact()
        print("compacted", batch, flush=True)
    store.search(np.ones(4))  # writes codes
"""


def survive(folder: Path, what: str, rounds: int, seed: int) -> int:
    """Kill writers; returns how many batches were acknowledged."""
    batches = 0
    before: set[str] = set()
    killed = kill_writer(WRITER, str(folder), what, rounds=rounds, seed=seed, longest=1.0)
    for number, lines in enumerate(killed):
        said = [(word, int(batch)) for word, batch in (line.split() for line in lines)]
        batches += sum(word == "stored" for word, _ in said)
        store = open_store(folder)
        rows = set(content(store)) - {"shared"}  # `content` refuses an id that is there twice
        assert before <= rows, "rows of an earlier round are gone"
        check_round(store, number, said)
        before = rows
        assert store.check(deep=True) == []
        store.compact()
        assert set(content(store)) - {"shared"} == rows
    return batches


def check_round(store: Store, number: int, said: list[tuple[str, int]]) -> None:
    stored = {batch for word, batch in said if word == "stored"}
    deleted = {batch for word, batch in said if word == "deleted"}
    found: dict[int, int] = {}
    for block in store.read(where=f"round = {number} and not id = shared"):
        for row in block.rows():
            batch = row["batch"]
            assert isinstance(batch, int)
            found[batch] = found.get(batch, 0) + 1
    last = max(stored)
    unsure = {last - 1} if last % 4 == 3 else set()  # killed while it was deleted
    assert set(found.values()) <= {3}, "a part of a batch is there"
    assert stored - deleted - unsure <= found.keys(), "an acknowledged batch is gone"
    assert not deleted & found.keys(), "a deleted batch is there again"
    assert found.keys() <= stored | {last + 1}
    (shared,) = [row for block in store.read(ids=["shared"]) for row in block.rows()]
    assert shared["round"] == number
    assert shared["batch"] in (last, last + 1)


def test_a1_killed_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    assert survive(tmp_path / "store", "write", rounds=4, seed=1) >= 4


def test_a2_killed_compactions_lose_and_double_nothing(tmp_path: Path) -> None:
    assert survive(tmp_path / "store", "compact", rounds=2, seed=2) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["write", "compact"])
def test_a1_a2_fifty_killed_writers_lose_and_double_nothing(tmp_path: Path, what: str) -> None:
    assert survive(tmp_path / "store", what, rounds=50, seed=3) >= 100
