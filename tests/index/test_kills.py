"""A1, A2: a writer that is killed at any moment loses nothing that was acknowledged."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecliptic.index import Store, StoreSchema, open_store
from tests.index.rows import content

ROOT = Path(__file__).parents[2]

SCHEMA = StoreSchema(4, {"batch": "int", "round": "int"})
# Writes batches of 3 new rows and one that all batches replace; each fourth batch is deleted again.
# Each round is a process that begins as a copy of this one, which has imported all but Lance.
WRITERS = """
import os, sys
import numpy as np
from ecliptic.index import StoreSchema, open_store
from ecliptic.index.lance import store as _, table
table.MOST_FRAGMENTS, table.MOST_VERSIONS = 4, 12  # files are joined and removed all the time

def say(line):
    os.write(1, line.encode() + b"\\n")  # whole or not at all, also if it is killed

def write(folder, compacts, number):
    store = open_store(folder, StoreSchema(4, {"batch": "int", "round": "int"}))
    for batch in range(100_000):
        ids = [f"{number}-{batch}-{row}" for row in range(3)] + ["shared"]
        vectors = np.random.default_rng(batch).normal(size=(4, 4))
        store.upsert(ids, vectors, {"batch": [batch] * 4, "round": [number] * 4})
        say(f"stored {batch}")
        if batch % 4 == 3:
            assert store.delete(where=f"round = {number} and batch = {batch - 1}") == 3
            say(f"deleted {batch - 1}")
        if compacts:
            store.compact()
        store.search(np.ones(4))  # writes codes

for line in sys.stdin:
    child = os.fork()
    if child:
        say(f"child {child}")
        say(f"ended {os.waitpid(child, 0)[1]}")
    else:
        write(sys.argv[1], sys.argv[2] == "compact", int(line))
"""


def killed_writers(folder: Path, what: str, rounds: int, seed: int) -> Iterator[list[str]]:
    """Start writers, one after the other; kill each one, and yield what it acknowledged."""
    draw = random.Random(seed)
    nursery = subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(folder), what],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    assert nursery.stderr is not None
    try:
        for number in range(rounds):
            print(number, file=nursery.stdin, flush=True)
            lines, early = list[str](), draw.random() < 0.2  # while it opens the store, or later
            child = int(nursery.stdout.readline().split()[1])
            killer = threading.Timer(draw.uniform(0, 1), os.kill, (child, signal.SIGKILL))
            if early:
                killer.start()
            while not (line := nursery.stdout.readline()).startswith("ended"):
                assert line, "the process that starts writers ended"
                lines.append(line)
                if len(lines) == 1 and not early:
                    killer.start()
            killer.join()
            assert line.split()[1] == "9", "it ended before it was killed"
            yield lines
    finally:
        nursery.stdin.close()  # its loop ends
        errors = nursery.stderr.read()
        nursery.wait(60)
        nursery.stdout.close()
        nursery.stderr.close()
    assert not errors, errors[-2000:]


def survive(folder: Path, what: str, rounds: int, seed: int) -> int:
    """Kill writers; returns how many batches were acknowledged."""
    batches = 0
    before: set[str] = set()
    for number, lines in enumerate(killed_writers(folder, what, rounds, seed)):
        said = [(word, int(batch)) for word, batch in (line.split() for line in lines)]
        batches += sum(word == "stored" for word, _ in said)
        store = open_store(folder, SCHEMA)
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
    last = max(stored, default=-1)
    unsure = {last - 1} if last % 4 == 3 else set[int]()  # killed while it was deleted
    assert set(found.values()) <= {3}, "a part of a batch is there"
    assert stored - deleted - unsure <= found.keys(), "an acknowledged batch is gone"
    assert not deleted & found.keys(), "a deleted batch is there again"
    assert found.keys() <= stored | {last + 1}
    shared = [row for block in store.read(ids=["shared"]) for row in block.rows()]
    if stored:
        assert shared[0]["round"] == number
        assert shared[0]["batch"] in (last, last + 1)


def test_a1_killed_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    assert survive(tmp_path / "store", "write", rounds=6, seed=1) >= 6


def test_a2_killed_compactions_lose_and_double_nothing(tmp_path: Path) -> None:
    assert survive(tmp_path / "store", "compact", rounds=6, seed=2) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("what", ["write", "compact"])
def test_a1_a2_fifty_killed_writers_lose_and_double_nothing(tmp_path: Path, what: str) -> None:
    assert survive(tmp_path / "store", what, rounds=50, seed=3) >= 25
