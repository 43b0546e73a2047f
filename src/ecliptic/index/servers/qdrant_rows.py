"""Rows as points of Qdrant: the id of a point is a UUID made from ours, which is in the payload.

A missing value is not in the payload. A time is text of RFC 3339. A float is there three times: as
a number for people, and in two whole numbers of 32 bits, by which it is read and filtered. Qdrant's
parser of JSON reads every sixth float of 17 digits as its neighbour, and whole numbers exactly.
"""

import struct
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.batches import RowBatch
from ecliptic.index.columns import ID, ColumnType, ColumnValue
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.index.servers.qdrant_driver import models

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "ecliptic:point")
LARGEST_REQUEST = 16 << 20  # bytes, about; a server takes 32 MiB unless it is told otherwise
_NUMBER_BYTES = 14  # of a number of a vector in JSON, about
_ESCAPED_BYTES = 6  # of a byte of a text in JSON, at most
_HALF = (1 << 32) - 1
_SIGN = 1 << 63


def make_point_id(id_: object) -> str | None:
    """The id of the point; None if no row can have this id."""
    if not isinstance(id_, str):
        return None
    try:
        return str(uuid.uuid5(NAMESPACE, id_))
    except UnicodeEncodeError:
        return None


def split_batch(batch: RowBatch) -> Iterator[models.Batch]:
    """The rows as points, in requests that a server takes."""
    start, size = 0, 0
    weight = _NUMBER_BYTES * batch.vectors.shape[1] if len(batch) else 0
    for row in range(len(batch)):
        more = weight + sum(_ESCAPED_BYTES * len(text.encode()) for text in _texts(batch, row))
        if row > start and size + more > LARGEST_REQUEST:
            yield _make_points(batch, slice(start, row))
            start, size = row, 0
        size += more
    yield _make_points(batch, slice(start, len(batch)))


def _texts(batch: RowBatch, row: int) -> Iterator[str]:
    yield batch.ids[row]
    for name, values in batch.columns.items():
        yield name
        yield str(values[row])
        yield "_high" * 8  # of floats, about


def _make_points(batch: RowBatch, rows: slice) -> models.Batch:
    columns = {name: values[rows] for name, values in batch.columns.items()}
    ids = batch.ids[rows]
    return models.Batch(
        ids=[str(make_point_id(id_)) for id_ in ids],
        vectors=batch.vectors[rows].tolist(),
        payloads=[_make_payload(id_, columns, row) for row, id_ in enumerate(ids)],
    )


def _make_payload(
    id_: str, columns: dict[str, list[ColumnValue | None]], row: int
) -> dict[str, Any]:
    payload: dict[str, Any] = {ID: id_}
    for name, values in columns.items():
        value = values[row]
        if isinstance(value, datetime):
            value = value.isoformat(timespec="microseconds") + "Z"
        if isinstance(value, float):
            payload |= zip(name_halves(name), split_float(value), strict=True)
        if value is not None:
            payload[name] = value
    return payload


def name_halves(column: str) -> tuple[str, str]:
    """The keys of the halves of a float; no column begins with an underscore."""
    return f"_{column}_high", f"_{column}_low"


def split_float(value: float) -> tuple[int, int]:
    """Two halves of 32 bits, which are in the order of the floats (IEEE 754, 5.10)."""
    bits: int = struct.unpack(">Q", struct.pack(">d", value))[0]
    ordered = ~bits & (2 * _SIGN - 1) if bits & _SIGN else bits | _SIGN
    return ordered >> 32, ordered & _HALF


def _join_float(high: int, low: int) -> float:
    ordered = high << 32 | low
    bits = ordered & ~_SIGN if ordered & _SIGN else ~ordered & (2 * _SIGN - 1)
    value: float = struct.unpack(">d", struct.pack(">Q", bits))[0]
    return value


def list_payload_keys(columns: Sequence[str], schema: StoreSchema) -> list[str]:
    """What must be read of a payload for these columns, and what filters look at."""
    keys = [ID]
    for name in columns:
        keys += name_halves(name) if schema.columns[name] == "float" else (name,)
    return keys


def read_points(
    points: Sequence[models.Record], columns: Sequence[str], schema: StoreSchema, *, vectors: bool
) -> RowBlock:
    """Points as rows."""
    payloads = [point.payload or {} for point in points]
    values = {
        name: [_read_value(payload, name, schema.columns[name]) for payload in payloads]
        for name in columns
    }
    matrix = join_point_vectors(points, schema.width) if vectors else None
    return RowBlock(tuple(payload[ID] for payload in payloads), values, matrix)


def join_point_vectors(points: Sequence[models.Record], width: int) -> NDArray[np.float32]:
    """Their vectors as (N, E); JSON has every float32 exactly."""
    return np.array([point.vector for point in points], dtype=np.float32).reshape(-1, width)


def _read_value(payload: dict[str, Any], name: str, kind: ColumnType) -> ColumnValue | None:
    if kind == "float":
        high, low = (payload.get(key) for key in name_halves(name))
        return None if high is None or low is None else _join_float(high, low)
    value: ColumnValue | None = payload.get(name)
    if kind == "timestamp" and isinstance(value, str):
        return datetime.fromisoformat(value.removesuffix("Z"))
    return value
