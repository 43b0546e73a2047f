"""Files of other tools, made by these tools, and rows to compare them with."""

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ecliptic.index import RowBlock, StoreSchema, VectorSource
from ecliptic.index.columns import ColumnValue

WIDTH = 8
SCHEMA = StoreSchema(
    WIDTH,
    {"caption": "string", "size": "int", "score": "float", "safe": "bool", "taken": "timestamp"},
    {"space": "abc", "model": "mini"},
)


def unit_rows(count: int, seed: int = 0, width: int = WIDTH) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)
    return unit


def store_block(start: int, count: int) -> RowBlock:
    """Rows as a store gives them, with missing values, newlines and large numbers."""
    rows = range(start, start + count)
    columns: dict[str, list[ColumnValue | None]] = {
        "caption": [None if row % 3 == 0 else f"a\ncat, 猫 {row}" for row in rows],
        "size": [(1 << 62) + row for row in rows],
        "score": [None if row % 5 == 0 else row / 7 for row in rows],
        "safe": [row % 2 == 0 for row in rows],
        "taken": [datetime(2020, 1, 1, 0, 0, row % 60, 123456) for row in rows],
    }
    return RowBlock(tuple(f"a/{row}\n.jpg" for row in rows), columns, unit_rows(count, seed=start))


def write_parquet(path: Path, columns: dict[str, Any]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pytest.importorskip("pyarrow").table(columns), path)


def write_shard(
    folder: Path, number: str, rows: NDArray[Any], columns: dict[str, Any] | None
) -> None:
    """A part as clip-retrieval writes it."""
    (folder / "img_emb").mkdir(parents=True, exist_ok=True)
    np.save(folder / "img_emb" / f"img_emb_{number}.npy", rows)
    if columns is not None:
        write_parquet(folder / "metadata" / f"metadata_{number}.parquet", columns)


def join_blocks(source: VectorSource) -> RowBlock:
    """All rows of a source."""
    blocks = list(source.blocks())
    ids = tuple(id_ for block in blocks for id_ in block.ids)
    columns: dict[str, list[ColumnValue | None]] = {
        name: [value for block in blocks for value in block.columns[name]]
        for name in source.columns
    }
    vectors = [block.vectors for block in blocks if block.vectors is not None]
    rows = np.concatenate([np.zeros((0, source.width), np.float32), *vectors])
    assert rows.dtype == np.float32
    assert len(rows) == len(ids) == source.rows
    return RowBlock(ids, columns, rows)
