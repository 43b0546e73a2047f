"""Checks what is put into a store: rows that fit are kept, the others are refused with a reason.

N rows, E vector size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecliptic.errors import ConfigError, InputError, ShapeError, StorageError, did_you_mean
from ecliptic.index.columns import ColumnType, ColumnTypes, ColumnValue, check_text, fit

LONGEST_ID = 1 << 13  # bytes of UTF-8, 8,192
_UNIT = 1e-5  # a length this near 1 is 1: the vector is stored as it is


@dataclass(frozen=True)
class RefusedRow:
    """A row that was not stored."""

    row: int  # in the call, from 0
    id: str
    reason: str


@dataclass(frozen=True)
class RowBatch:
    """Rows that can be stored; no two have the same id."""

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]  # (N, E) of unit length
    columns: dict[str, list[ColumnValue | None]]  # every column of the store, N values each

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class CheckedRows:
    """What `check_rows_to_store` found."""

    batch: RowBatch
    repeated: int  # rows whose id comes again later in the call; the last one counts
    refused: tuple[RefusedRow, ...]


def check_rows_to_store(
    ids: Sequence[str],
    vectors: ArrayLike,
    columns: Mapping[str, Sequence[Any]],
    width: int,
    types: ColumnTypes,
) -> CheckedRows:
    """Rows that can be stored in a store of E = `width` with columns of these `types`.

    Raises:
        ShapeError: the vectors are not (N, E), or a list has another length than the ids.
        StorageError: an unknown column.
    """
    matrix = _check_shapes(ids, vectors, columns, width, types)
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1)
    reasons = _vector_problems(matrix, lengths)
    for row, id_ in enumerate(ids):
        if row not in reasons and (reason := _id_problem(id_)):
            reasons[row] = reason
    fitted = {
        name: _fit_column(name, columns.get(name), kind, len(ids), reasons)
        for name, kind in types.items()
    }
    last = {id_: row for row, id_ in enumerate(ids) if row not in reasons}
    kept = sorted(last.values())
    odd = np.abs(lengths[kept] - 1) > _UNIT
    scale = np.where(odd, lengths[kept], 1.0)[:, None]
    unit = (matrix[kept] / scale).astype(np.float32)
    batch = RowBatch(
        tuple(ids[row] for row in kept),
        unit,
        {name: [values[row] for row in kept] for name, values in fitted.items()},
    )
    refused = tuple(RefusedRow(row, str(ids[row]), reasons[row]) for row in sorted(reasons))
    return CheckedRows(batch, len(ids) - len(refused) - len(kept), refused)


def _check_shapes(
    ids: Sequence[str],
    vectors: ArrayLike,
    columns: Mapping[str, Sequence[Any]],
    width: int,
    types: ColumnTypes,
) -> NDArray[np.float32]:
    if isinstance(ids, str):
        raise ShapeError(f"ids must be a list of strings, got the one string {ids!r}.")
    matrix = _read_numbers(vectors)
    if not len(ids) and not matrix.size:
        matrix = matrix.reshape(0, width)
    if matrix.shape != (len(ids), width):
        raise ShapeError(
            f"the vectors have the shape {matrix.shape}, but {len(ids)} ids in this store need "
            f"{(len(ids), width)}: one row for each id, {width} values each."
        )
    for name, values in columns.items():
        if name not in types:
            near = did_you_mean(name, types) or f"its columns are {', '.join(types) or 'none'}."
            raise StorageError(f"the store has no column {name!r}; {near}")
        if len(values) != len(ids):
            raise ShapeError(f"{name} has {len(values)} values for {len(ids)} ids.")
    return matrix


def _read_numbers(vectors: ArrayLike) -> NDArray[np.float32]:
    """An array of float32; numbers beyond it become infinity, which is refused later."""
    try:
        array = np.asarray(vectors)
    except (ValueError, TypeError, RuntimeError) as error:  # such as lists of different lengths
        raise ShapeError(f"the vectors are no array of numbers: {error}.") from None
    if array.size and array.dtype.kind not in "fiu":
        raise ShapeError(f"vectors must be of real numbers, got an array of {array.dtype}.")
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _vector_problems(matrix: NDArray[np.float32], lengths: NDArray[np.float64]) -> dict[int, str]:
    """Row -> what is wrong with its vector."""
    problems = {int(row): "its vector is all zeros" for row in np.flatnonzero(lengths == 0)}
    bad = ~np.isfinite(matrix).all(axis=1)
    return problems | {int(row): "its vector has NaN or infinity" for row in np.flatnonzero(bad)}


def _id_problem(id_: object) -> str:
    if not isinstance(id_, str) or not id_:
        return f"its id must be a string that is not empty, got {id_!r}"
    try:
        check_text(id_, LONGEST_ID)
    except ValueError as error:
        return f"its id cannot be stored: {error}"
    return ""


def check_ids(ids: Sequence[str]) -> tuple[str, ...]:
    """Different ids of rows that a store may have; ids that none can have are left out.

    Raises:
        ConfigError: they are one string, or some are no strings.
    """
    if isinstance(ids, str):
        raise ConfigError(f"ids must be a list of strings, got the one string {ids!r}.")
    for id_ in ids:
        if not isinstance(id_, str):
            raise ConfigError(f"ids must be strings, got {id_!r}.")
    return tuple(id_ for id_ in dict.fromkeys(ids) if not _id_problem(id_))


def _fit_column(
    name: str, values: Sequence[Any] | None, kind: ColumnType, rows: int, reasons: dict[int, str]
) -> list[ColumnValue | None]:
    """The values of a column; rows whose value does not fit get a reason."""
    if values is None:
        return [None] * rows
    fitted: list[ColumnValue | None] = []
    for row, value in enumerate(values):
        try:
            fitted.append(fit(value, kind))
        except ValueError as error:
            fitted.append(None)
            reasons.setdefault(row, f"{name}: {error}")
    return fitted


def check_queries(vectors: ArrayLike, width: int) -> NDArray[np.float32]:
    """Queries as (Q, E) of unit length.

    Args:
        vectors: (Q, E), or (E,) of one query.
        width: E of the store.

    Raises:
        ShapeError: another shape.
        InputError: a query of zeros, or with NaN or infinity.
    """
    matrix = _read_numbers(vectors)
    matrix = matrix[None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.shape[1] != width or not len(matrix):
        raise ShapeError(
            f"queries of the shape {np.shape(vectors)} do not fit a store of vectors of {width} "
            f"values; pass (Q, {width}) or ({width},)."
        )
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1)
    if problems := _vector_problems(matrix, lengths):
        row = min(problems)
        reason = problems[row].removeprefix("its vector ")
        raise InputError(f"query {row} cannot be searched: it {reason}; nothing is near it.")
    unit: NDArray[np.float32] = (matrix / lengths[:, None]).astype(np.float32)
    return unit
