"""A server gives the answers of the store in memory, to the last bit."""

import numpy as np
import pytest

from ecliptic.errors import FilterError
from ecliptic.index import MemoryStore, Store
from tests.index.servers.cases import (
    FILTERS,
    HOSTILE,
    ORDERS,
    SCHEMA,
    WIDTH,
    assert_same_answers,
    fill,
    read_all,
)

pytestmark = [  # of Qdrant's local mode
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


@pytest.fixture
def oracle(store: Store) -> MemoryStore:
    made = MemoryStore(SCHEMA)
    fill(made, store)
    return made


def test_searches_and_reads_agree_under_every_filter(store: Store, oracle: MemoryStore) -> None:
    assert_same_answers(store, oracle, (None, *FILTERS))
    for where in FILTERS[::9]:
        assert read_all(store, where=where) == read_all(oracle, where=where)
    for k in (1, 7, 41):
        query = np.linspace(-1, 1, WIDTH)
        assert store.search(query, k, exact=True).hits[0].ids == oracle.search(query, k).hits[0].ids


def test_an_order_of_strings_is_answered_or_refused(store: Store, oracle: MemoryStore) -> None:
    if "Qdrant" not in type(store).__name__:
        assert_same_answers(store, oracle, ORDERS)
        return
    for where in ORDERS:
        for call in (lambda w=where: store.search(np.ones(WIDTH), where=w),
                     lambda w=where: store.delete(where=w)):  # fmt: skip
            with pytest.raises(FilterError, match="Qdrant"):
                call()
    assert len(store) == len(oracle)


def test_rows_are_replaced_deleted_and_counted_alike(store: Store, oracle: MemoryStore) -> None:
    rows = np.random.default_rng(2).normal(size=(6, WIDTH))
    rows[4] = 0
    ids = ["new", HOSTILE[0], "row 1", "new", "zeros", HOSTILE[24]]
    columns = {"ctid": [1, 2, None, 4, 5, 6]}
    assert store.upsert(ids, rows, columns) == oracle.upsert(ids, rows, columns)
    gone = [*HOSTILE[:9], "nowhere", "with \0", "half \ud800", "row 5", "row 5"]
    assert store.delete(gone) == oracle.delete(gone) == 10
    for where in ("ctid > 0 and flag = true", "ctid > 0 and flag = true", 'words contains "%"'):
        assert store.delete(where=where) == oracle.delete(where=where)
    assert len(store) == len(oracle)
    assert read_all(store) == read_all(oracle)


def test_reads_by_id_leave_out_what_is_not_there(store: Store, oracle: MemoryStore) -> None:
    ids = [*HOSTILE, "nowhere", "half \ud800", "with \0", ""]
    assert read_all(store, ids=ids) == read_all(oracle, ids=ids)
    assert read_all(store, ids=[]) == {}
    block = next(iter(store.read(["é"], columns=["ratio"])))
    assert list(block.columns) == ["ratio"]
    assert block.vectors is None


def test_all_ties_at_the_last_place_are_seen(store: Store, oracle: MemoryStore) -> None:
    vectors = np.tile(np.linspace(1, 2, WIDTH), (700, 1))
    ids = [f"tie {(11 * number) % 700:03}" for number in range(700)]
    for each in (store, oracle):
        each.upsert(ids, vectors)
    got = store.search(vectors[0], 5, exact=True)
    assert got.hits[0].ids == tuple(f"tie {number:03}" for number in range(5))
    assert got.hits[0].ids == oracle.search(vectors[0], 5).hits[0].ids
    assert got.plan.scored >= 700


def test_every_bit_of_a_vector_comes_back(store: Store) -> None:
    patterns = np.random.default_rng(3).integers(0, 1 << 32, 4000, dtype=np.uint32).view(np.float32)
    usable = patterns[np.isfinite(patterns) & (np.abs(patterns) < 1e-3)][: WIDTH * 150]
    vectors = usable[: len(usable) // WIDTH * WIDTH].reshape(-1, WIDTH).copy()
    vectors[:, 0] = 1  # the others are small, also denormal, so the length is 1
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    vectors = vectors[np.abs(lengths - 1) < 1e-6]
    assert len(vectors) > 50
    ids = [f"{number}" for number in range(len(vectors))]
    oracle = MemoryStore(SCHEMA)
    for each in (store, oracle):
        each.upsert(ids, vectors)
    assert read_all(store) == read_all(oracle)
    first = next(iter(store.read(["0"], vectors=True))).vectors
    assert first is not None
    assert first[0].tobytes() == vectors[0].tobytes()


def test_rows_may_be_written_while_they_are_read(store: Store, oracle: MemoryStore) -> None:
    seen = 0
    for block in store.read(columns=["ctid"]):
        seen += store.delete(block.ids)
    assert seen == len(oracle)
    assert len(store) == 0
    assert [block.ids for block in store.read()] == [()]
