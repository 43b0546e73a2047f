"""A9, A14: rows that are stored, counted or refused, and queries that are refused."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import ConfigError, EclipticError, InputError, ShapeError, StorageError
from ecliptic.index import Store, StoreSchema, open_store
from tests.index.rows import SCHEMA, content, random_vectors


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store("memory:" if request.param == "memory" else tmp_path, SCHEMA)


def test_a9_of_an_id_twice_in_a_batch_the_last_row_is_stored(store: Store) -> None:
    vectors = random_vectors(4, 0)
    written = store.upsert(["a", "b", "a", "a"], vectors, {"size": [1, 2, 3, 4]})
    assert (written.added, written.replaced, written.repeated) == (2, 0, 2)
    again = store.upsert(["a", "a"], vectors[:2], {"size": [5, 6]})
    assert (again.added, again.replaced, again.repeated) == (0, 1, 1)
    sizes = {row["id"]: row["size"] for block in store.read() for row in block.rows()}
    assert sizes == {"a": 6, "b": 2}


def test_a9_a_refused_row_does_not_replace_the_one_before(store: Store) -> None:
    written = store.upsert(["a", "a"], [[1.0] * 8, [0.0] * 8])
    assert (written.added, written.repeated, len(written.refused)) == (1, 0, 1)
    assert len(store) == 1


def test_a14_rows_that_cannot_be_stored_are_refused_with_reasons(store: Store) -> None:
    vectors = random_vectors(12, 0).astype(np.float64)
    vectors[1, 3], vectors[2, 0], vectors[3], vectors[4, 1] = np.nan, -np.inf, 0, 1e300
    ids: list[Any] = [f"row {n}" for n in range(12)]
    ids[5], ids[6], ids[7], ids[8] = "", 7, "a\0b", "\ud800"
    sizes: list[Any] = [None] * 9 + ["big", 1.5, 1 << 63]
    written = store.upsert(ids, vectors, {"size": sizes})
    reasons = {refused.row: refused.reason for refused in written.refused}
    assert reasons == {
        1: "its vector has NaN or infinity",
        2: "its vector has NaN or infinity",
        3: "its vector is all zeros",
        4: "its vector has NaN or infinity",
        5: "its id must be a string that is not empty, got ''",
        6: "its id must be a string that is not empty, got 7",
        7: "its id cannot be stored: it holds the character NUL",
        8: "its id cannot be stored: it holds a lone surrogate, which is half a character",
        9: "size: it must be a whole number, got 'big'",
        10: "size: it must be a whole number, got 1.5",
        11: f"size: it must have at most 64 bits, got {1 << 63}",
    }
    assert set(content(store)) == {"row 0"}


BAD_VALUES: dict[str, list[Any]] = {
    "name": [1, b"a", "a\0", "\udfff", "a" * 65_537],
    "size": [True, 0.5, float("nan"), float("inf"), 1 << 63, -(1 << 63) - 1, "1"],
    "rate": [True, float("nan"), float("inf"), 10**400, "1.0", 1j],
    "kept": [0, 1, "true"],
    "taken": ["2024-01-01", 0, datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))],
}


@pytest.mark.parametrize("column", BAD_VALUES)
def test_a14_values_of_another_type_are_refused(store: Store, column: str) -> None:
    values = BAD_VALUES[column]
    ids = [f"{n}" for n in range(len(values))]
    written = store.upsert(ids, random_vectors(len(values), 0), {column: values})
    assert written.added == 0
    assert all(refused.reason.startswith(f"{column}: it ") for refused in written.refused)


def test_extreme_values_come_back_as_they_were(store: Store) -> None:
    rows: dict[str, list[Any]] = {
        "name": ["", "e\u0301", "\u202e\n\t", "a" * 65_536, None],
        "size": [-(1 << 63), (1 << 63) - 1, 0, np.int8(-5), 3.0],
        "rate": [-0.0, 5e-324, 1.7976931348623157e308, np.float32(0.5), 1 << 53],
        "kept": [True, False, np.True_, None, None],
        "taken": [datetime.min, datetime.max, datetime(1, 1, 1, tzinfo=UTC), None, None],
    }
    assert store.upsert([*"abcde"], random_vectors(5, 0), rows).added == 5
    found = {row["id"]: row for block in store.read() for row in block.rows()}
    assert [found[id_] for id_ in "abcde"] == [
        {"id": id_, **{name: values[n] for name, values in rows.items()}}
        | ({"taken": datetime.min} if id_ == "c" else {})
        for n, id_ in enumerate("abcde")
    ]
    assert str(found["a"]["rate"]) == "0.0"  # -0.0 and 0.0 are one value in every engine


def test_ids_that_differ_in_case_or_normal_form_are_others(store: Store) -> None:
    ids = ["a", "A", "é", "e\u0301", "a ", " a", "a" * 8192, "../x", "日" * 2000]
    assert store.upsert(ids, random_vectors(len(ids), 0)).added == len(ids)
    assert store.delete(["A", "e\u0301", "a "]) == 3
    assert set(content(store)) == set(ids) - {"A", "e\u0301", "a "}
    assert not store.upsert(["a" * 8193], random_vectors(1, 0)).added


def test_no_rows_and_ids_that_no_row_can_have_change_nothing(store: Store) -> None:
    assert store.upsert([], []).added == store.upsert([], np.zeros((0, 8))).added == 0
    store.upsert(["a"], random_vectors(1, 0))
    impossible = ["\ud800", "", "a\0", "a" * 9000, "b"]
    assert store.delete(impossible) == store.delete([]) == 0
    assert [block.ids for block in store.read([*impossible, "a", "a"]) if block.ids] == [("a",)]


def test_unit_vectors_are_stored_bit_by_bit_and_others_with_unit_length(store: Store) -> None:
    vectors = random_vectors(3, 0).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[1] *= 1e30
    vectors[2] *= 1e-30
    store.upsert(["a", "b", "c"], vectors)
    blocks = [(block.ids, block.vectors) for block in store.read(vectors=True)]
    found = {id_: v for ids, rows in blocks for id_, v in zip(ids, rows, strict=True)}
    assert found["a"].tobytes() == vectors[0].astype(np.float32).tobytes()
    for id_, vector in zip("bc", vectors[1:], strict=True):
        right = vector / np.linalg.norm(vector)
        np.testing.assert_allclose(found[id_], right, rtol=1e-6, atol=1e-7)


BAD_CALLS: dict[str, tuple[type[EclipticError], str, Any]] = {
    "wrong width": (ShapeError, "need", lambda s: s.upsert(["a"], [[1.0, 2.0]])),
    "fewer ids": (ShapeError, "need", lambda s: s.upsert(["a"], random_vectors(2, 0))),
    "one string": (ShapeError, "list of strings", lambda s: s.upsert("ab", random_vectors(2, 0))),
    "ragged": (ShapeError, "no array", lambda s: s.upsert(["a", "b"], [[1.0] * 8, [1.0]])),
    "complex": (ShapeError, "real numbers", lambda s: s.upsert(["a"], [[1j] * 8])),
    "texts": (ShapeError, "real numbers", lambda s: s.upsert(["a"], [["1"] * 8])),
    "short column": (
        ShapeError,
        "size has 2 values for 1",
        lambda s: s.upsert(["a"], [[1.0] * 8], {"size": [1, 2]}),
    ),
    "unknown column": (
        StorageError,
        "did you mean 'size'",
        lambda s: s.upsert(["a"], [[1.0] * 8], {"sice": [1]}),
    ),
    "one string to delete": (ConfigError, "the one string", lambda s: s.delete("kept")),
    "one string to read": (ConfigError, "the one string", lambda s: s.read("kept")),
    "a number to delete": (ConfigError, "must be strings, got 1", lambda s: s.delete(["kept", 1])),
    "no condition": (ConfigError, "either ids or where", lambda s: s.delete()),
    "both": (ConfigError, "not both", lambda s: s.read(["a"], "size = 1")),
    "query of zeros": (InputError, "query 0 .* all zeros", lambda s: s.search(np.zeros(8))),
    "query with NaN": (
        InputError,
        "query 1 .* NaN or infinity",
        lambda s: s.search([[1.0] * 8, [float("nan")] * 8]),
    ),
    "query with infinity": (InputError, "NaN or infinity", lambda s: s.search([np.inf] * 8)),
    "query of another width": (ShapeError, r"\(7,\) do not fit", lambda s: s.search([1.0] * 7)),
    "no query": (ShapeError, "do not fit", lambda s: s.search(np.zeros((0, 8)))),
    "k of 0": (ConfigError, "at least 1", lambda s: s.search([1.0] * 8, 0)),
    "k of -1": (ConfigError, "at least 1", lambda s: s.search([1.0] * 8, -1)),
    "k of a billion": (ConfigError, "at most 100000", lambda s: s.search([1.0] * 8, 10**9)),
    "column of hits": (ConfigError, "no column 'x'", lambda s: s.search([1.0] * 8, columns=["x"])),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a14_a_wrong_call_is_refused_and_changes_nothing(store: Store, name: str) -> None:
    error, message, call = BAD_CALLS[name]
    store.upsert(["kept"], [[1.0] * 8])
    with pytest.raises(error, match=message):
        call(store)
    assert set(content(store)) == {"kept"}


BAD_SCHEMAS: dict[str, tuple[str, Any]] = {
    "no width": ("width", lambda: StoreSchema(0)),
    "too wide": ("at most 16384", lambda: StoreSchema(16385)),
    "a word of filters": ("a word of filters", lambda: StoreSchema(2, {"missing": "int"})),
    "capitals": ("lower-case", lambda: StoreSchema(2, {"Size": "int"})),
    "id": ("there in every store", lambda: StoreSchema(2, {"id": "string"})),
    "vector": ("there in every store", lambda: StoreSchema(2, {"vector": "float"})),
    "a type": ("must be one of", lambda: StoreSchema(2, {"size": "integer"})),  # type: ignore[dict-item]
    "facts": ("facts must be strings", lambda: StoreSchema(2, facts={"a": 1})),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", BAD_SCHEMAS)
def test_a_schema_that_no_store_can_have_is_refused(name: str) -> None:
    message, make = BAD_SCHEMAS[name]
    with pytest.raises(ConfigError, match=message):
        make()


def test_every_word_of_filters_is_refused_as_a_column_and_found_as_a_value(store: Store) -> None:
    from ecliptic.index.columns import KEYWORDS

    words = sorted(KEYWORDS)
    store.upsert(words, random_vectors(len(words), 0), {"name": words})
    for word in words:
        with pytest.raises(ConfigError, match="a word of filters"):
            StoreSchema(2, {word: "int"})
        (block,) = store.read(where=f"name = '{word}' and id in ('{word}')")
        assert block.ids == (word,)


def test_another_schema_or_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"is no store: it has no store\.json; check the path"):
        open_store(tmp_path / "none")
    open_store(tmp_path, SCHEMA)
    for schema, what in (
        (StoreSchema(9, SCHEMA.columns, SCHEMA.facts), "its width is 8, not 9"),
        (StoreSchema(8, {}, SCHEMA.facts), "its columns are"),
        (StoreSchema(8, SCHEMA.columns, {"space": "another"}), "its facts are .*another"),
    ):
        with pytest.raises(StorageError, match=what):
            open_store(tmp_path, schema)
