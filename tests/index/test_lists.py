"""Codes grouped by lists: a search looks at a part of the rows and finds the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ecliptic.index import Store, StoreSchema, open_store
from ecliptic.index.codes.lists import COUNT, SHARE, RowLists, find_lists
from ecliptic.index.lance import view

WIDTH, ROWS, CLUSTERS = 32, 4000, 40


def clustered(rows: int, seed: int) -> NDArray[np.float32]:
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, WIDTH))
    random = np.random.default_rng(seed)
    own = centres[random.integers(0, CLUSTERS, rows)]
    found: NDArray[np.float32] = own + 0.4 * random.standard_normal((rows, WIDTH))
    return found.astype(np.float32)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(view, "GROUPED_FROM", ROWS)
    store = open_store(tmp_path, StoreSchema(WIDTH, {"number": "int"}))
    for start in range(0, ROWS, 1000):
        put(store, start, 1000)
    return store


def put(store: Store, start: int, rows: int) -> None:
    numbers = range(start, start + rows)
    columns = {"number": list(numbers)}
    store.upsert([f"{n:06}" for n in numbers], clustered(rows, start), columns)


def recall(store: Store, queries: NDArray[np.float32], k: int = 10) -> tuple[float, float]:
    """Recall against exact scores, and the mean part of the rows that was looked at."""
    found, looked = 0, 0.0
    for query in queries:
        answer = store.search(query, k)
        (truth,) = store.search(query, k, exact=True).hits
        found += len({*answer.hits[0].ids} & {*truth.ids})
        looked += answer.plan.probed
    return found / (k * len(queries)), looked / len(queries)


def test_a_quarter_of_the_rows_has_the_nearest_ones(store: Store) -> None:
    found, looked = recall(store, clustered(60, 99))
    assert found >= 0.99
    assert SHARE <= looked < SHARE + 0.05


def test_fewer_rows_than_the_limit_are_not_grouped(store: Store) -> None:
    store.delete(ids=["000000"])
    assert store.search(np.ones(WIDTH)).plan.probed == 1.0
    put(store, 0, 1)
    assert store.search(np.ones(WIDTH)).plan.probed < 1.0


def test_new_and_deleted_rows_are_seen(store: Store) -> None:
    store.search(np.ones(WIDTH))
    put(store, ROWS, 500)
    new = clustered(500, ROWS)[7]
    assert store.search(new, 1).hits[0].ids == (f"{ROWS + 7:06}",)
    store.delete(ids=[f"{ROWS + 7:06}"])
    assert store.search(new, 1).hits[0].ids != (f"{ROWS + 7:06}",)
    store.compact(now=True)
    assert recall(store, clustered(30, 98))[0] >= 0.99
    assert store.check(deep=True) == []


def test_filters_many_hits_and_several_queries_look_at_all_rows(store: Store) -> None:
    query = clustered(2, 97)
    assert store.search(query, 5).plan.probed == 1.0
    assert store.search(query[0], 1500).plan.probed == 1.0
    assert store.search(query[0], 5, "number < 100").plan.probed == 1.0
    (some,) = store.search(query[0], 5, "number < 100").hits
    (truth,) = store.search(query[0], 5, "number < 100", exact=True).hits
    assert some.ids == truth.ids


@pytest.mark.parametrize("lost", ["codes", "codes/lists.safetensors"])
def test_lost_lists_and_codes_are_made_again(store: Store, tmp_path: Path, lost: str) -> None:
    query = clustered(1, 96)
    before = store.search(query)
    path = tmp_path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with open_store(tmp_path) as again:
        assert again.search(query).hits[0].ids == before.hits[0].ids
        assert again.search(query).plan.probed < 1.0
    assert path.exists()


def test_damaged_lists_are_made_again(store: Store, tmp_path: Path) -> None:
    query = clustered(1, 95)
    before = store.search(query)
    path = tmp_path / "codes" / "lists.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 8
    path.write_bytes(bytes(data))
    with open_store(tmp_path) as again:
        assert again.search(query).hits[0].ids == before.hits[0].ids


def test_pairs_are_found_across_lists(store: Store) -> None:
    put(store, ROWS, 3)
    store.upsert(["twin"], clustered(3, ROWS)[1:2], {"number": [1]})
    pairs = {
        (left, right)
        for block in store.near_pairs(0.9999)
        for left, right in zip(block.left, block.right, strict=True)
    }
    assert pairs == {(f"{ROWS + 1:06}", "twin")}


def test_assignment_is_to_the_nearest_centre() -> None:
    rows = torch.from_numpy(clustered(500, 1))
    lists = find_lists(rows, 16)
    nearest = torch.cdist(rows, lists.centres).argmin(1)
    assert (lists.assign(rows) == nearest).float().mean() > 0.999  # but for rounding
    assert find_lists(rows, 16).key == lists.key
    assert len(find_lists(rows[:5]).centres) == 5
    assert COUNT > 5


def test_lists_are_chosen_until_they_have_their_share() -> None:
    lists = RowLists(torch.eye(4))
    query = torch.tensor([0.1, 0.9, 0.5, 0.2])
    assert lists.choose(query, torch.tensor([10, 10, 10, 10])).tolist() == [1]
    assert lists.choose(query, torch.tensor([97, 1, 1, 1])).tolist() == [0, 1, 2, 3]
    assert lists.choose(query, torch.tensor([0, 1, 99, 0])).tolist() == [1, 2]
