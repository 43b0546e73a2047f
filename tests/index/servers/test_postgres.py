"""What a PostgreSQL server does that the store in memory does not: faults and other writers."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index import MemoryStore, StoreSchema
from tests.index.servers.cases import SCHEMA, WIDTH, fill, read_all

psycopg = pytest.importorskip("psycopg", reason="pip install ecliptic[postgres]")
from ecliptic.index.servers import postgres  # noqa: E402 - a skip comes first

PostgresStore = postgres.PostgresStore
ROWS = np.random.default_rng(5).normal(size=(300, WIDTH)).astype(np.float32)
IDS = [f"row {number}" for number in range(300)]


@pytest.fixture
def admin(socket_folder: str) -> Iterator[Any]:
    address = f"postgresql://postgres@/postgres?host={socket_folder}"
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


@pytest.fixture
def name(postgres_url: str) -> str:
    return postgres_url.rpartition("=")[2]


@pytest.fixture
def store(postgres_url: str) -> Iterator[Any]:
    with PostgresStore.open(postgres_url, SCHEMA) as made:
        yield made


def _wait_for(admin: Any, query: str) -> int:
    """The process of the server that waits in a statement like `query`."""
    for _ in range(3000):
        found = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE %s AND state = 'active' "
            "AND wait_event IS NOT NULL AND pid <> pg_backend_pid()", [query],
        ).fetchone()  # fmt: skip
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError(f"no process waits in {query}")


@contextmanager
def _fails_meanwhile(call: Any, match: str) -> Iterator[None]:
    """`call` runs in a thread, and must end with a StorageError."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            call()
        except StorageError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(60)
    assert errors
    assert match in str(errors[0])


def test_a_writer_killed_between_copy_and_commit_leaves_nothing(
    store: Any, admin: Any, name: str, socket_folder: str
) -> None:
    store.upsert(IDS[:10], ROWS[:10])
    address = f"postgresql://postgres@/postgres?host={socket_folder}"
    with psycopg.connect(address) as other:
        other.execute(f"LOCK TABLE {name} IN EXCLUSIVE MODE")
        match = "nothing of this call was stored"
        with _fails_meanwhile(lambda: store.upsert(IDS, ROWS), match):
            admin.execute("SELECT pg_terminate_backend(%s)", [_wait_for(admin, "INSERT INTO%")])
    assert len(store) == 10  # on a new connection
    assert store.upsert(IDS, ROWS).replaced == 10


def test_a_writer_killed_in_its_commit_does_not_promise_anything(
    store: Any, admin: Any, name: str
) -> None:
    admin.execute(
        f"CREATE FUNCTION {name}_wait() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"
    )
    admin.execute(
        f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON {name} DEFERRABLE INITIALLY DEFERRED "
        f"FOR EACH ROW EXECUTE FUNCTION {name}_wait()"
    )
    with _fails_meanwhile(lambda: store.upsert(IDS[:1], ROWS[:1]), "all rows of this call or none"):
        admin.execute("SELECT pg_terminate_backend(%s)", [_wait_for(admin, "COMMIT%")])
    assert len(store) == 0


def test_a_lost_connection_is_told_once_and_made_again(store: Any, admin: Any) -> None:
    store.upsert(IDS, ROWS)
    blocks = store.read()
    next(blocks)
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    )
    with pytest.raises(StorageError, match=r"lost .*the answer is not complete.*try again"):
        len(store)
    with pytest.raises(StorageError, match="lost"):
        list(blocks)
    assert len(store) == len(IDS)


@pytest.mark.parametrize("shared", [False, True])
def test_two_writers_of_the_same_ids_store_each_row_once(postgres_url: str, shared: bool) -> None:
    results, ready = [], threading.Barrier(2)
    one = nullcontext(PostgresStore.open(postgres_url, SCHEMA)) if shared else None

    def write(sign: int) -> None:
        ready.wait()
        with one or PostgresStore.open(postgres_url, SCHEMA) as own:  # both may make it
            order = IDS if sign > 0 else IDS[::-1]
            rows = ROWS if sign > 0 else -ROWS[::-1]
            for _ in range(5):
                results.append(own.upsert(order, rows))
                own.delete(where="ctid = 1")

    threads = [threading.Thread(target=write, args=(sign,)) for sign in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with PostgresStore.open(postgres_url) as own:
        found = read_all(own)
        assert own.check(deep=True) == []
    assert sum(result.added for result in results) == len(found) == len(IDS)
    assert sum(result.replaced for result in results) == 9 * len(IDS)
    if one:
        one.enter_result.close()
    oracle = MemoryStore(SCHEMA)
    oracle.upsert(IDS, ROWS * np.sign(np.dot(ROWS[0], np.frombuffer(found["row 0"][1], "f4"))))
    assert found == read_all(oracle)  # all rows of one writer


def test_a_store_is_made_once_and_opened_as_it_is(postgres_url: str) -> None:
    with pytest.raises(StorageError, match="there is no store postgresql://postgres@/"):
        PostgresStore.open(postgres_url)
    with PostgresStore.open(postgres_url, SCHEMA) as made:
        made.upsert(IDS, ROWS)
    for schema in (None, SCHEMA):
        with PostgresStore.open(postgres_url, schema) as opened:
            assert opened.schema == SCHEMA
            assert len(opened) == len(IDS)
    for other, part in (
        (StoreSchema(9, SCHEMA.columns, SCHEMA.facts), "width is 8, not 9"),
        (StoreSchema(WIDTH, {"words": "int"}, SCHEMA.facts), "columns are"),
        (StoreSchema(WIDTH, SCHEMA.columns), "facts are"),
    ):
        with pytest.raises(StorageError, match=f"another schema: its {part}"):
            PostgresStore.open(postgres_url, other)


def test_a_store_made_again_by_another_is_not_written(postgres_url: str, admin: Any) -> None:
    name = postgres_url.rpartition("=")[2]
    with PostgresStore.open(postgres_url, SCHEMA) as old:
        admin.execute(f"DROP TABLE {name}, {name}_schema")
        with pytest.raises(StorageError, match="not as it was made"):
            old.upsert(IDS, ROWS)
        PostgresStore.open(postgres_url, StoreSchema(WIDTH, {"words": "int"})).close()
        for call in (lambda: old.upsert(IDS, ROWS), lambda: old.delete(IDS)):
            with pytest.raises(StorageError, match="made again with another schema"):
                call()
        assert "another schema" in old.check()[0].what


def test_a_table_of_somebody_else_is_left_alone(postgres_url: str, admin: Any) -> None:
    name = postgres_url.rpartition("=")[2]
    admin.execute("CREATE EXTENSION IF NOT EXISTS vector")  # this test may be the first one
    admin.execute(f"CREATE TABLE {name} (id int)")
    with pytest.raises(StorageError, match="is no store; use another name"):
        PostgresStore.open(postgres_url, SCHEMA)
    admin.execute(f"CREATE TABLE {name}_schema (schema text)")
    with pytest.raises(StorageError, match="cannot be read, so something else wrote"):
        PostgresStore.open(postgres_url)


def test_rows_that_are_no_rows_of_ours_are_refused_by_the_table(
    store: Any, admin: Any, name: str
) -> None:
    unit = [1.0, *[0.0] * (WIDTH - 1)]
    for key, vector in ((b"x", unit), (postgres.make_key("a"), [2.0] * WIDTH)):
        with pytest.raises(psycopg.errors.CheckViolation):
            admin.execute(f"INSERT INTO {name} VALUES (%s, 'a', %s::real[])", [key, vector])


def test_check_and_repair_of_bad_rows_and_tables(store: Any, admin: Any, name: str) -> None:
    store.upsert(IDS, ROWS)
    assert store.check(deep=True) == []
    admin.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_vector_check")
    admin.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_check")
    admin.execute(f"UPDATE {name} SET vector = '[2,0,0,0,0,0,0,0]' WHERE id = 'row 3'")
    admin.execute(f"UPDATE {name} SET _key = 'x' WHERE id = 'row 4'")
    admin.execute(f"ALTER TABLE {name} SET UNLOGGED")
    admin.execute(f"CREATE INDEX {name}_hnsw ON {name} USING hnsw (vector vector_ip_ops)")
    admin.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [f"{name}_hnsw"]
    )
    told = " ".join(problem.what for problem in store.check())
    assert "UNLOGGED" in told
    assert "graph was not finished" in told
    assert len(store.repair().actions) == 3
    assert store.check(deep=True) == []
    assert store.repair() == type(store.repair())((), 0)
    assert len(store) == len(IDS) - 2


def test_deep_check_counts_bad_rows(store: Any, admin: Any, name: str) -> None:
    store.upsert(IDS, ROWS)
    admin.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_vector_check")
    admin.execute(f"UPDATE {name} SET vector = '[2,0,0,0,0,0,0,0]' WHERE id = 'row 3'")
    assert store.check() == []
    assert store.check(deep=True)[0].what.startswith("1 rows have a vector")
    assert store.repair().lost == 1


def test_check_finds_what_was_altered(store: Any, admin: Any, name: str) -> None:
    admin.execute(f"ALTER TABLE {name} ALTER COLUMN words TYPE varchar(9)")
    admin.execute(f"ALTER TABLE {name} DROP COLUMN _ctid")
    admin.execute(f"ALTER TABLE {name} DROP CONSTRAINT {name}_pkey")
    told = " ".join(problem.what for problem in store.check())
    assert "words is character varying(9), not text" in told
    assert "_ctid is not there, not bigint" in told
    assert "the primary key of _key is gone" in told
    with pytest.raises(StorageError, match="not as it was made"):
        store.search(ROWS[0], where="ctid > 1")
    admin.execute(f"DROP TABLE {name}")
    assert "is gone" in store.check()[0].what
    admin.execute(f"DROP TABLE {name}_schema")
    assert "its schema is gone" in store.check()[0].what


def test_check_finds_a_server_that_can_lose_rows(store: Any, admin: Any) -> None:
    def set_fsync(value: str) -> None:
        admin.execute(f"ALTER SYSTEM SET fsync = {value}")
        admin.execute("SELECT pg_reload_conf()")
        for _ in range(3000):
            if admin.execute("SHOW fsync").fetchone() == (value,):
                return
            time.sleep(0.01)

    set_fsync("off")
    try:
        assert "set fsync = on" in store.check()[0].what
    finally:
        set_fsync("on")


def test_a_graph_is_used_where_it_helps_and_the_plan_says_so(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = MemoryStore(SCHEMA)
    fill(store, oracle)
    monkeypatch.setattr(postgres, "FEWEST_FOR_GRAPH", 100)
    query = np.linspace(-1, 1, WIDTH)
    assert store.search(query).plan.route == "scan"
    store.build_graph()
    found = store.search(query, 5)
    assert found.plan.route == "graph"
    assert found.hits[0].ids == oracle.search(query, 5).hits[0].ids
    assert store.search(query, 5, exact=True).plan.route == "scan"
    assert store.search(query, 5, "flag = true").plan.route == "scan"
    assert store.search(query, 201).plan.route == "scan"
    monkeypatch.setattr(postgres, "_LOOKED_AT", 3)
    few = store.search(query, 20)
    assert few.plan.route == "scan"  # because the graph gave too few
    assert few.hits[0].ids == oracle.search(query, 20).hits[0].ids
    monkeypatch.setattr(postgres, "FEWEST_FOR_GRAPH", 121)
    assert store.search(query).plan.route == "scan"


def test_too_wide_vectors_are_refused(postgres_url: str) -> None:
    with pytest.raises(ConfigError, match="at most 16000 values, not 16001"):
        PostgresStore.open(postgres_url, StoreSchema(16001))
    with PostgresStore.open(postgres_url, StoreSchema(2001)) as wide:
        wide.upsert(["a"], np.ones((1, 2001)))
        with pytest.raises(ConfigError, match="at most 2000"):
            wide.build_graph()
        assert wide.search(np.ones(2001)).hits[0].ids == ("a",)


def test_compact_keeps_the_rows(store: Any) -> None:
    store.upsert(IDS, ROWS)
    store.compact()
    assert len(store) == len(IDS)
