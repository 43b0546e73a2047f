"""`VectorSource`: the rows in files of another tool, read a block at a time.

N rows, E vector size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import StorageError
from ecliptic.index.columns import ColumnType, ColumnValue
from ecliptic.index.schema import WIDEST, RowBlock

BLOCK = 4096  # rows of a block, at most
_UNIT = 0.01  # a length this near 1 is 1; vectors in float16 are off by 0.001
NamedRows: TypeAlias = tuple[tuple[str, ...] | None, dict[str, list[ColumnValue | None]], int]
"""Ids (None: they have none), columns and number of some rows, without their vectors."""


@dataclass(frozen=True)
class VectorSource:
    """Rows in files of another tool.

    Vectors are as they are in the files, also of zeros or with NaN, which a store refuses by row.
    A store keeps the direction of a vector, not its length.
    """

    kind: str  # "clip-retrieval", "npy", "parquet" or "faiss"
    rows: int  # N
    width: int  # E
    columns: Mapping[str, ColumnType]
    blocks: Callable[[], Iterator[RowBlock]] = field(repr=False)  # each call begins anew
    notes: tuple[str, ...] = ()  # sentences: what was left out, renamed or cannot be got back
    facts: Mapping[str, str] = field(default_factory=dict)  # of the maker, if the files tell them
    id_column: str = ""  # from which the ids are; "" if they are numbers or of another kind


def check_vectors(where: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise StorageError unless an array of this shape and dtype is vectors."""
    if len(shape) != 2 or dtype.kind != "f":
        raise StorageError(
            f"{where} holds {dtype} of shape {shape}, but vectors are floats of shape (N, E): one "
            "row for each item. Pass the file that holds the vectors."
        )
    if not 1 <= shape[1] <= WIDEST:
        raise StorageError(
            f"{where} holds vectors of {shape[1]} values, but a store takes 1 to {WIDEST}."
        )


def as_float32(rows: NDArray[Any]) -> NDArray[np.float32]:
    """A copy in float32; values beyond its range become infinity, which a store refuses by row."""
    with np.errstate(over="ignore", invalid="ignore"):  # of NaN that a damaged file may hold
        return rows.astype(np.float32)


def without_names(rows: int) -> Iterator[NamedRows]:
    """Blocks of rows that have nothing but a vector."""
    for start in range(0, rows, BLOCK):
        yield None, {}, min(BLOCK, rows - start)


def join_vectors(
    where: object,
    rows: int,
    named: Iterator[NamedRows],
    vectors: Callable[[int, int], NDArray[np.float32]],
    number: Callable[[int], str] = str,
) -> Iterator[RowBlock]:
    """Put the ids and columns of rows beside their vectors.

    Args:
        where: the file of the vectors, for messages.
        rows: N.
        named: ids and columns of all rows, in order.
        vectors: gives those from a row to another.
        number: the id of a row that has none, from its number.

    Raises:
        StorageError: the two have other numbers of rows than before, so a file was changed.
    """
    start = 0
    for ids, columns, count in named:
        stop = start + count
        if stop > rows:
            break
        names = tuple(map(number, range(start, stop))) if ids is None else ids
        yield RowBlock(names, columns, vectors(start, stop))
        start = stop
    if start != rows:
        raise StorageError(
            f"{where} has vectors and names of different numbers of rows now; it was changed while "
            "it was read. Read it again when nothing writes it."
        )


def tell_lengths(source: VectorSource) -> VectorSource:
    """Add a note if the first vectors do not have the length 1."""
    first = next(source.blocks(), None)
    if first is None or first.vectors is None:
        return source
    with np.errstate(invalid="ignore"):
        lengths = np.linalg.norm(first.vectors.astype(np.float64), axis=1)
    lengths = lengths[np.isfinite(lengths) & (lengths > 0)]
    if not len(lengths) or np.abs(lengths - 1).max() <= _UNIT:
        return source
    note = (
        f"the vectors do not have the length 1 (the first ones: {lengths.min():.4g} to "
        f"{lengths.max():.4g}); a store keeps their direction only, and compares by cosine."
    )
    return replace(source, notes=(*source.notes, note))
