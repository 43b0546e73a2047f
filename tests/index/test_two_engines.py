"""A17: random operations on a store in a folder and on one in memory give the same answers."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ecliptic.index import MemoryStore, Store, StoreSchema, open_store
from tests.index.rows import content

SCHEMA = StoreSchema(3, {"n": "int", "s": "string"})
IDS = st.sampled_from(["a", "A", "b", "é", "e\u0301", "a b", "日", '"', "z" * 50, "0"])
VECTORS = st.lists(st.integers(-2, 2), min_size=3, max_size=3)  # equal ones and zeros are frequent
NUMBERS = st.none() | st.integers(0, 4) | st.just(1 << 62)
WORDS = st.none() | st.sampled_from(["", "a", "A", "b c"])
WHERE = st.sampled_from(
    ["n > 1", "n is missing", "not n > 1", "s = a or n = 0", "id in (a, A, b)", "s contains ''"]
)
BATCHES = st.lists(st.tuples(IDS, VECTORS, NUMBERS, WORDS), max_size=6)


class TwoEngines(RuleBasedStateMachine):
    """`folder` and `memory` get the same calls; `reader` is another handle that only reads."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp()) / "store"
        self.folder = open_store(self.place, SCHEMA)
        self.reader = open_store(self.place)
        self.memory = MemoryStore(SCHEMA)

    def teardown(self) -> None:
        shutil.rmtree(self.place.parent)

    def both(self) -> list[Store]:
        return [self.folder, self.reader]

    @rule(batch=BATCHES)
    def upsert(self, batch: list[tuple[str, list[int], int | None, str | None]]) -> None:
        ids = [row[0] for row in batch]
        vectors = np.array([row[1] for row in batch]).reshape(-1, 3)
        columns = {"n": [row[2] for row in batch], "s": [row[3] for row in batch]}
        wanted = self.memory.upsert(ids, vectors, columns)
        assert self.folder.upsert(ids, vectors, columns) == wanted

    @rule(ids=st.lists(IDS, max_size=4))
    def delete_ids(self, ids: list[str]) -> None:
        assert self.folder.delete(ids) == self.memory.delete(ids)

    @rule(where=WHERE)
    def delete_where(self, where: str) -> None:
        assert self.folder.delete(where=where) == self.memory.delete(where=where)

    @rule(
        queries=st.lists(VECTORS.filter(any), min_size=1, max_size=3),
        k=st.integers(1, 12),
        where=st.none() | WHERE,
        columns=st.sampled_from([(), ("n",), ("s", "n")]),
        exact=st.booleans(),
    )
    def search(
        self, queries: Any, k: int, where: str | None, columns: tuple[str, ...], exact: bool
    ) -> None:
        wanted = self.memory.search(queries, k, where, columns)
        for store in self.both():
            found = store.search(queries, k, where, columns, exact=exact)
            assert found.plan.candidates == wanted.plan.candidates
            for mine, right in zip(found.hits, wanted.hits, strict=True):
                assert mine.ids == right.ids
                assert mine.scores.tobytes() == right.scores.tobytes()
                assert mine.columns == right.columns

    @rule(where=st.none() | WHERE, ids=st.none() | st.lists(IDS, max_size=4))
    def read(self, where: str | None, ids: list[str] | None) -> None:
        where = where if ids is None else None
        wanted = {row["id"]: row for block in self.memory.read(ids, where) for row in block.rows()}
        for store in self.both():
            rows = [row for block in store.read(ids, where) for row in block.rows()]
            assert {row["id"]: row for row in rows} == wanted
            assert len(rows) == len(wanted)

    @rule()
    def compact(self) -> None:
        self.folder.compact()
        assert self.folder.check(deep=True) == []

    @rule()
    def open_again(self) -> None:
        self.folder.close()
        self.folder = open_store(self.place, SCHEMA)

    @rule()
    def lose_the_codes(self) -> None:
        shutil.rmtree(self.place / "codes", ignore_errors=True)

    @invariant()
    def all_have_the_same_rows(self) -> None:
        wanted = content(self.memory)
        for store in self.both():
            assert len(store) == len(wanted)
            assert content(store) == wanted


def test_a17_two_engines_give_the_same_answers() -> None:
    run_state_machine_as_test(
        TwoEngines, settings=settings(max_examples=10, stateful_step_count=16, deadline=None)
    )
