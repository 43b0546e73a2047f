"""Searches by codes give what exact scores of all rows give, also at the edges."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from ecliptic.index import MemoryStore, Store, StoreSchema, open_store
from ecliptic.index.answers import exact_scores
from ecliptic.index.lance import searching
from tests.index.rows import random_vectors


def two_stores(folder: Path, vectors: Any, parts: int = 1) -> tuple[Store, Store]:
    """The rows in a folder, in `parts` fragments, and in memory."""
    schema = StoreSchema(vectors.shape[1], {"n": "int"})
    stores = open_store(folder, schema), MemoryStore(schema)
    order = np.random.default_rng(5).permutation(len(vectors))
    for rows in np.array_split(order, parts):
        for store in stores:
            store.upsert([f"{n:06}" for n in rows], vectors[rows], {"n": rows.tolist()})
    return stores


def compare(stores: tuple[Store, Store], queries: Any, k: int, where: str | None = None) -> None:
    right = stores[1].search(queries, k, where, ["n"])
    for exact in (False, True):
        found = stores[0].search(queries, k, where, ["n"], exact=exact)
        assert found.plan.route == ("scan" if exact else "map")
        for mine, wanted in zip(found.hits, right.hits, strict=True):
            assert mine.ids == wanted.ids
            assert mine.scores.tobytes() == wanted.scores.tobytes()
            assert mine.columns == wanted.columns


def test_three_fragments_filters_and_many_queries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "_SCORES", 2000)  # few queries at once
    stores = two_stores(tmp_path, random_vectors(600, 0, width=64), parts=3)
    queries = random_vectors(10, 1, width=64)
    for where in (None, "n < 30", "n >= 100", "not n < 599", "n > 9999", "n is missing"):
        compare(stores, queries, 10, where)
    for store in stores:
        store.delete(where="n < 300")
    compare(stores, queries, 10)
    compare(stores, queries, 1000)


@pytest.mark.parametrize("width", [1, 2, 7, 33])
def test_any_width_and_a_k_beyond_the_rows(tmp_path: Path, width: int) -> None:
    stores = two_stores(tmp_path, random_vectors(9, 0, width=width), parts=2)
    for k in (1, 8, 9, 100):
        compare(stores, random_vectors(3, 1, width=width), k)


def test_a_store_without_rows_answers_with_none(tmp_path: Path) -> None:
    store = open_store(tmp_path, StoreSchema(4, {"n": "int"}))
    for exact in (False, True):
        found = store.search(np.ones((2, 4)), 5, "n > 1", ["n"], exact=exact)
        assert [hits.ids for hits in found.hits] == [(), ()]
        assert found.hits[0].columns == {"n": []}
    assert [row for block in store.read(vectors=True) for row in block.rows()] == []
    assert store.delete(where="n > 1") == store.delete(["a"]) == 0
    store.compact()
    assert store.check(deep=True) == []


def test_a_store_that_lost_all_rows_answers_with_none(tmp_path: Path) -> None:
    stores = two_stores(tmp_path, random_vectors(20, 0), parts=2)
    for store in stores:
        store.search(np.ones(8))
        assert store.delete(where="n >= 0") == 20
    compare(stores, np.ones(8), 5)
    assert len(stores[0]) == 0


def test_thousands_of_equal_vectors_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """They are in fragments with other means, so the codes of some score higher than of others."""
    vectors = random_vectors(3000, 0, width=16)
    vectors[500:] = vectors[0]
    stores = two_stores(tmp_path, vectors, parts=4)
    near = vectors[0] + random_vectors(1, 1, width=16)[0] / 10
    for k in (1, 10, 200):
        compare(stores, np.stack([vectors[0], near, vectors[7]]), k)
    compare(stores, near, 10, "n > 400")


@given(st.integers(0, 1 << 32), st.integers(1, 700), st.integers(1, 40))
def test_a_score_does_not_depend_on_the_rows_beside_it(seed: int, width: int, count: int) -> None:
    rows, query = random_vectors(count, seed, width), random_vectors(1, seed + 1, width)[0]
    scores = exact_scores(rows, query)
    alone = [exact_scores(rows[n : n + 1], query)[0] for n in range(count)]
    assert scores.tobytes() == np.array(alone).tobytes()
    assert exact_scores(rows[::-1], query).tobytes() == scores[::-1].tobytes()
    right = (rows.astype(np.longdouble) * query).sum(axis=1)
    np.testing.assert_allclose(scores, right.astype(np.float64), rtol=1e-6, atol=1e-5)


def test_columns_beyond_the_limit_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecliptic.index.lance import view

    monkeypatch.setattr(view, "_COLUMN_BYTES", 100)
    monkeypatch.setattr(view, "_FILTERS", 2)
    stores = two_stores(tmp_path, random_vectors(50, 0))
    for n in range(5):
        compare(stores, np.ones(8), 5, f"n > {n} and id >= 000003")
    seen = stores[0]._seen  # type: ignore[attr-defined]
    assert sum(column.nbytes for column in seen._columns.values()) <= 100
    assert len(seen._masks) <= 2
