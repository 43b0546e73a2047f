"""What a Qdrant server does that the store in memory does not: versions, faults, other points."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import FilterError, StorageError
from ecliptic.index import MemoryStore, StoreSchema
from tests.index.servers.cases import FILTERS, SCHEMA, WIDTH, assert_same_answers, fill, read_all
from tests.index.servers.conftest import open_qdrant

pytest.importorskip("qdrant_client", reason="pip install ecliptic[qdrant]")
pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")

from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException

from ecliptic.index.servers import qdrant_rows
from ecliptic.index.servers.qdrant_filters import filter_to_qdrant
from tests.index.servers.edge import EdgeClient

ROWS = np.random.default_rng(6).normal(size=(50, WIDTH)).astype(np.float32)
IDS = [f"row {number}" for number in range(50)]


@pytest.fixture
def client(tmp_path: Path) -> Any:
    made = EdgeClient(tmp_path / "edge")
    yield made
    made.close()


def test_a_store_is_made_once_and_opened_as_it_is(client: Any) -> None:
    with pytest.raises(StorageError, match="there is no store qdrant://here/photos"):
        open_qdrant(client, None)
    open_qdrant(client).upsert(IDS, ROWS)
    for schema in (None, SCHEMA):
        again = open_qdrant(client, schema)
        assert again.schema == SCHEMA
        assert len(again) == 50
    with pytest.raises(StorageError, match="its width is 8, not 9"):
        open_qdrant(client, StoreSchema(9, SCHEMA.columns, SCHEMA.facts))
    client._info.config.metadata = {}
    with pytest.raises(StorageError, match="no store of ecliptic"):
        open_qdrant(client)


def test_floats_and_vectors_survive_a_restart_of_the_server(client: Any) -> None:
    draw = np.random.default_rng(7)
    ratios = (draw.normal(size=50) * 10.0 ** draw.integers(-20, 20, 50)).tolist()
    store, oracle = open_qdrant(client), MemoryStore(SCHEMA)
    for each in (store, oracle):
        each.upsert(IDS, ROWS, {"ratio": ratios})
    client.reload()
    assert read_all(store) == read_all(oracle)
    for value in ratios[:4]:
        near = [float(np.nextafter(value, way)) for way in (-np.inf, np.inf)]
        for operator in ("=", "!=", "<", "<=", ">", ">="):
            filters = [f"ratio {operator} {number!r}" for number in (value, *near)]
            assert_counts(store, oracle, filters)


def assert_counts(store: Any, oracle: MemoryStore, filters: list[str]) -> None:
    for where in filters:
        got = store.search(ROWS[0], 1, where).plan.candidates
        assert got == oracle.search(ROWS[0], 1, where).plan.candidates, where


def test_filters_agree_without_indexes_too(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdgeClient, "create_payload_index", lambda *_, **__: None)
    store, oracle = open_qdrant(client), MemoryStore(SCHEMA)
    fill(oracle, store)
    oracle.delete(["row 30"])
    store.delete(["row 30"])
    oracle.upsert(["row 30"], ROWS[:1])
    store.upsert(["row 30"], ROWS[:1])
    assert_same_answers(store, oracle, FILTERS)


@pytest.mark.parametrize(("version", "where"), [("1.18.3", "starts with"), ("1.19.0", "contains")])
def test_an_older_server_is_told_for_what_it_is_too_old(
    client: Any, monkeypatch: pytest.MonkeyPatch, version: str, where: str
) -> None:
    version_info = type("Version", (), {"version": version})
    monkeypatch.setattr(client, "info", version_info)
    store = open_qdrant(client)
    with pytest.raises(FilterError, match=rf"`words {where}` needs Qdrant 1\.(19|20) or newer"):
        store.search(ROWS[0], where=f"words {where} a")
    version_info.version = "1.15.5-dev"
    with pytest.raises(StorageError, match=r"a store needs 1\.16 or newer"):
        open_qdrant(client)


def test_large_calls_are_split_into_requests(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_rows, "LARGEST_REQUEST", 20_000)
    store, oracle = open_qdrant(client), MemoryStore(SCHEMA)
    words = [["é" * 1000, "", None, "x" * 9000][number % 4] for number in range(50)]
    for each in (store, oracle):
        each.upsert(IDS, ROWS, {"words": words})
    assert 20 < client.requests < 45
    assert read_all(store) == read_all(oracle)


def test_a_connection_lost_between_requests_is_told_and_repeated(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_rows, "LARGEST_REQUEST", 5_000)
    store = open_qdrant(client)
    send = client.upsert

    def fail_at_the_second(*request: Any, **how: Any) -> None:
        if client.requests:
            raise ResponseHandlingException(OSError("the cable is out"))
        send(*request, **how)

    with monkeypatch.context() as patch:
        patch.setattr(client, "upsert", fail_at_the_second)
        with pytest.raises(StorageError, match=r"the cable is out.*some rows .* may be stored"):
            store.upsert(IDS, ROWS)
    assert 0 < len(store) < 50
    written = store.upsert(IDS, ROWS)
    assert written.added + written.replaced == len(store) == 50


def test_points_of_others_and_lost_indexes_are_found_and_mended(client: Any) -> None:
    store = open_qdrant(client)
    store.upsert(IDS, ROWS)
    assert store.check(deep=True) == []
    zeros, unit = [0.0] * WIDTH, [1.0, *[0.0] * (WIDTH - 1)]
    points = [qdrant_rows.make_point_id("a"), qdrant_rows.make_point_id("b"), str(_uuid())]
    payloads = [{"id": "a"}, {"id": "c"}, {}]
    batch = models.Batch(ids=points, vectors=[zeros, unit, unit], payloads=payloads)
    client.upsert("photos", batch, wait=True)
    del client._info.payload_schema["flag"], client._info.payload_schema["_ratio_low"]
    assert "no index of _ratio_low, flag" in store.check()[0].what
    assert store.repair().lost == 3
    assert store.check(deep=True) == []
    client.upsert("photos", batch, wait=True)
    assert "3 points are no rows" in store.check(deep=True)[0].what
    client._info.status = models.CollectionStatus.RED
    assert "status red" in store.check()[0].what
    client._info.config.params.vectors = models.VectorParams(size=9, distance="Dot")
    assert "another size" in store.check()[1].what
    client.close()
    assert "it is gone" in store.check()[0].what


def _uuid() -> Any:
    import uuid

    return uuid.UUID(int=1)


def test_whole_numbers_are_compared_as_far_as_floats_are_exact() -> None:
    from ecliptic.index.filters.parsing import parse_filter

    for value in (1 << 53, -(1 << 53), 1 << 62):
        tree = parse_filter(f"ctid > {value}", SCHEMA.columns)
        with pytest.raises(FilterError, match="not exact; use =, or a value below"):
            filter_to_qdrant(tree, SCHEMA.columns, (1, 20))
