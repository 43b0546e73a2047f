"""A16: a store that an earlier version wrote opens and answers as it did then, for ever.

`stores/format1/` was made by `python -m tests.index.test_old_stores format1`; the scores in
`format1.json` beside it were computed in float64 from the rows themselves. A new format gets a
new folder.
"""

import json
import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.index import StoreSchema, open_store
from ecliptic.index.lance.table import LanceTable
from tests.index.rows import random_vectors

STORES = Path(__file__).parent / "stores"
COLUMNS: dict[str, Any] = {
    "name": ["one", "two \u65e5", None, "", "five", "e\u0301", "seven"],
    "size": [1, -(1 << 63), (1 << 63) - 1, None, 0, 5, 9],
    "rate": [0.5, 5e-324, 1.7976931348623157e308, None, -2.0, 0.0, 1.0],
    "kept": [True, False, None, True, False, None, True],
    "taken": [datetime(2024, 2, 29, 12, 30, 1, 5), datetime.min, datetime.max, *[None] * 4],
}
IDS = ["a", "A", "\u00e9", "e\u0301", "x y", "../z", "g"]
VECTORS = random_vectors(7, 16, width=4)
DELETED = "x y"
QUERIES = random_vectors(3, 17, width=4)
FILTERS = [None, "size > 0", "name is missing or kept = yes", "taken < 2024-03-01"]


def write(folder: Path) -> None:
    """The store: two fragments, of which one has a deleted row, and their codes."""
    schema = StoreSchema(
        4,
        {"name": "string", "size": "int", "rate": "float", "kept": "bool", "taken": "timestamp"},
        {"space": "of a test"},
    )
    store = open_store(folder, schema)
    for rows in (slice(0, 5), slice(5, 7)):
        columns = {name: values[rows] for name, values in COLUMNS.items()}
        store.upsert(IDS[rows], VECTORS[rows], columns)
    store.delete([DELETED])
    store.search(QUERIES)
    LanceTable(folder)._remove_versions(timedelta(0))  # but the newest, as each has 70 kB
    (folder / "writer.lock").unlink()


def scores() -> dict[str, list[float]]:
    """The cosine of each row that is left with each query."""
    unit = VECTORS / np.linalg.norm(VECTORS.astype(np.float64), axis=1, keepdims=True)
    queries = QUERIES / np.linalg.norm(QUERIES.astype(np.float64), axis=1, keepdims=True)
    cosines = unit @ queries.T
    return {id_: row.tolist() for id_, row in zip(IDS, cosines, strict=True) if id_ != DELETED}


PASS = {  # ids, by hand
    None: {"a", "A", "\u00e9", "e\u0301", "../z", "g"},
    "size > 0": {"a", "\u00e9", "../z", "g"},
    "name is missing or kept = yes": {"a", "\u00e9", "e\u0301", "g"},
    "taken < 2024-03-01": {"a", "A"},
}


@pytest.mark.parametrize("name", sorted(path.name for path in STORES.iterdir() if path.is_dir()))
def test_a16_a_store_of_an_earlier_version_answers_as_then(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(STORES / name, folder)
    store = open_store(folder)
    assert store.check(deep=True) == []
    assert store.schema.facts == {"space": "of a test"}
    rows = {row["id"]: row for block in store.read() for row in block.rows()}
    assert rows == {
        id_: {"id": id_, **{column: values[n] for column, values in COLUMNS.items()}}
        for n, id_ in enumerate(IDS)
        if id_ != DELETED
    }
    right = json.loads((STORES / f"{name}.json").read_text(encoding="utf-8"))
    for where in FILTERS:
        for exact in (False, True):
            for number, hits in enumerate(store.search(QUERIES, 9, where, exact=exact).hits):
                assert set(hits.ids) == PASS[where]
                wanted = sorted(PASS[where], key=lambda id_: -right[id_][number])
                assert list(hits.ids) == wanted
                expected = [right[id_][number] for id_ in wanted]
                np.testing.assert_allclose(hits.scores, expected, atol=2e-7)
    assert store.upsert(["a", "new"], VECTORS[:2]).replaced == 1
    store.compact()
    assert len(store) == 7
    assert store.check(deep=True) == []


if __name__ == "__main__":
    write(STORES / sys.argv[1])
    text = json.dumps(scores(), indent=1) + "\n"
    (STORES / f"{sys.argv[1]}.json").write_text(text, encoding="utf-8")
