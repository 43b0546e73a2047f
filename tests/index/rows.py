"""Small stores for tests: a schema, seeded vectors, and rows."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecliptic.index import Store, StoreSchema, open_store

SCHEMA = StoreSchema(
    8,
    {"name": "string", "size": "int", "rate": "float", "kept": "bool", "taken": "timestamp"},
    {"space": "of a test"},
)


def random_vectors(count: int, seed: int, width: int = 8) -> NDArray[np.float32]:
    """(count, width) of any length."""
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def put(store: Store, first: int, count: int) -> None:
    """Store the rows `first` to `first + count`; row n has the size n."""
    ids = [f"row-{n}" for n in range(first, first + count)]
    sizes = list(range(first, first + count))
    store.upsert(ids, random_vectors(count, first), {"size": sizes})


def small_store(folder: Path, batches: int = 3, count: int = 5) -> Store:
    """A store of `batches` fragments, with `count` rows each."""
    store = open_store(folder, SCHEMA)
    for number in range(batches):
        put(store, number * count, count)
    return store


def content(store: Store) -> dict[str, tuple[object, ...]]:
    """Everything in a store: columns and bytes of the vector by id; no id may come twice."""
    found: dict[str, tuple[object, ...]] = {}
    for block in store.read(vectors=True):
        assert block.vectors is not None
        for row, vector in zip(block.rows(), block.vectors, strict=True):
            id_ = str(row["id"])
            assert id_ not in found, f"{id_} is there twice"
            found[id_] = (*row.values(), vector.tobytes())
    return found
