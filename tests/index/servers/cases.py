"""Rows and filters that a server and the store in memory must answer alike."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from ecliptic.index import MemoryStore, Store, StoreSchema

WIDTH = 8
SCHEMA = StoreSchema(
    WIDTH,
    {"words": "string", "ctid": "int", "ratio": "float", "flag": "bool", "taken": "timestamp"},
    {"model": "a \0 b", "Ünïcode": "😀"},
)
HOSTILE = (
    "'; DROP TABLE photos; --", '"', "\\", "\\'", "%s", "%(id)s", "100%", "{0}", "$1", "a\tb\nc",
    "\x01\x7f", "é", "e\u0301", "😀", "\u202eabc", "\uffff", "\ufeff", "NULL", " ", "a_b", "a%b",
    "A", "a", "B", "x" * 8192, "😀" * 2048, "[]", "null", "0", "ß", "\U0010ffff",
)  # fmt: skip
FILTERS = (
    'words = "\'; DROP TABLE photos; --"', 'words != "%s"',
    'words in ("%s", "é", "\\\\", "missing")',
    'words contains "%"', 'words contains "_"', 'words contains "\'"', 'words contains "\\\\"',
    'words contains ""', 'words starts with ""', "words starts with a", 'words starts with "😀😀"',
    'words = ""', "words is missing", "words is not missing", 'words contains "\u0301"',
    'id = "%(id)s"', 'id in ("$1", a, nowhere)', 'id contains "a"', "id is missing",
    "ctid = 3", "ctid != 3", "ctid > 3", "ctid <= -1", "not ctid > 3", "not (not ctid > 3)",
    "ctid in (1, 9007199254740993)", "ctid = 9007199254740992", "ctid = -9223372036854775808",
    "ctid < 9007199254740991", "ctid > 9007199254740991", "ctid >= -9007199254740991",
    "ratio = 0.1", "ratio != 0.1", "ratio < 0", "ratio >= 1e300", "ratio in (0.1, 5e-324, 2)",
    "ratio = 0", "not ratio < 0.5", "flag = true", "flag != true", "flag < true", "flag >= true",
    "flag > true", "flag in (true, false)", "not flag = true", "taken = 2024-01-01T00:00:00.000007",
    "taken != 2024-01-01T00:00:00.000007", "taken > 2024-01-01T00:00:00.000007",
    "taken <= 9999-12-31T23:59:59.999999", "taken < 0001-01-01T00:00:01",
    "taken in (9999-12-31T23:59:59.999999, 0001-01-01)", "taken is missing",
    "ctid > 0 and (flag = true or words contains a) and not taken is missing",
    "not (ctid > 0 or words is missing)",
)  # fmt: skip
ORDERS = ('words < "a"', 'words >= "é"', 'id > "\uffff"', "ctid > 9007199254740992")  # not Qdrant
_WHOLE = (0, 1, 3, -1, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, -(1 << 63), (1 << 63) - 1)
_RATIOS = (0.0, 0.1, 1 / 3, -2.5, 5e-324, 1.7976931348623157e308, 0.30000000000000004, 2.0)
_FIRST = datetime(2024, 1, 1)


def fill(*stores: Store) -> None:
    """Put the same rows into each store: hostile ids and texts, ties, missing values."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(120, WIDTH)).astype(np.float32)
    vectors[40:80] = vectors[0]  # more ties than any K of the tests
    ids = [*HOSTILE, *(f"row {number}" for number in range(120 - len(HOSTILE)))]
    columns: dict[str, list[Any]] = {
        "words": [None if n % 9 == 4 else ["", *HOSTILE][n % 32] for n in range(120)],
        "ctid": [None if n % 7 == 3 else _WHOLE[n % 9] for n in range(120)],
        "ratio": [None if n % 11 == 5 else _RATIOS[n % 8] for n in range(120)],
        "flag": [(None, True, False)[n % 3] for n in range(120)],
        "taken": [_FIRST + timedelta(microseconds=n) for n in range(117)]
        + [None, datetime.min, datetime.max],
    }
    results = [store.upsert(ids, vectors, columns) for store in stores]
    assert results[0].added == 120
    assert all(result == results[0] for result in results)


def read_all(store: Store, **how: Any) -> dict[str, tuple[Any, ...]]:
    """Id -> its columns and the bytes of its vector."""
    found = {}
    for block in store.read(vectors=True, **how):
        assert block.vectors is not None
        for row, vector in zip(block.rows(), block.vectors, strict=True):
            assert row["id"] not in found
            found[str(row["id"])] = (row, vector.tobytes())
    return found


def assert_same_answers(store: Store, oracle: MemoryStore, filters: Iterable[str | None]) -> None:
    """Searches and reads agree to the last bit."""
    queries = np.random.default_rng(1).normal(size=(2, WIDTH))
    queries[0] = next(iter(oracle.read(["row 30"], vectors=True))).vectors[0]  # type: ignore[index]
    for where in filters:
        got = store.search(queries, 200, where, exact=True)
        expected = oracle.search(queries, 200, where, exact=True)
        assert [hits.ids for hits in got.hits] == [hits.ids for hits in expected.hits], where
        for mine, other in zip(got.hits, expected.hits, strict=True):
            assert mine.scores.tobytes() == other.scores.tobytes(), where
        assert got.plan.candidates == expected.plan.candidates, where
