"""Cosines row by row, and means of any number of rows, in float64 and in bounded memory.

A block of rows at a time becomes float64, so stored vectors that are mapped from disk are never
held as a whole. No gradients. N rows, E vector size.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vecdot

from ecliptic.checks import rows_not_finite
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.scoring.similarity import Rows, check_spaces, to_tensor

AT_ONCE = 1 << 16  # numbers of one block and side, so that a processor's cache holds them


def pair_cosines(a: Rows, b: Rows) -> Tensor:
    """The cosine of each row with the row beside it, such as of an image and its caption: CLIP-T.

    Args:
        a: (N, E) vectors of any length.
        b: the same; row i belongs to row i of `a`.

    Returns:
        (N,) float64; a zero vector gives 0.

    Raises:
        ShapeError: the shapes differ.
        SpaceMismatchError: stored vectors of two spaces.
        NumericalError: NaN or infinity in a row.
    """
    cosines = torch.cat([row_cosines(x, y) for x, y in row_blocks(a, b, checked=False)])
    check_finite_rows(cosines)  # a row that is not finite has no cosine
    return cosines


def row_blocks(*sides: Rows, checked: bool = True) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of every side, (n, E) float64 each, block by block; at least one block.

    Args:
        sides: (N, E) vectors each.
        checked: whether every number is finite; else the caller checks what becomes of them.

    Raises:
        ShapeError: the sides are not (N, E) of one shape.
        SpaceMismatchError: stored vectors of two spaces.
        NumericalError: NaN or infinity in a row.
    """
    for other in sides[1:]:
        check_spaces(sides[0], other)
    arrays = [held(side) for side in sides]
    shapes = [tuple(getattr(array, "shape", ())) for array in arrays]
    if len(shapes[0]) != 2 or any(shape != shapes[0] for shape in shapes):
        raise ShapeError(
            f"vectors of shapes {', '.join(map(str, shapes))} cannot be compared row by row; give "
            "(N, E) vectors of one model, one row for each item, or use `cosine` for all pairs."
        )
    block = max(1, AT_ONCE // max(1, shapes[0][1]))
    for start in range(0, max(shapes[0][0], 1), block):
        some = tuple(_to_double(array[start : start + block]) for array in arrays)
        for rows in some if checked else ():
            check_finite_rows(rows, start)
        yield some


def held(rows: Rows) -> Any:
    """The tensor or array itself, as it is; `to_tensor` makes floats of it."""
    return getattr(rows, "vectors", rows)


def _to_double(rows: Any) -> Tensor:
    return to_tensor(rows).detach().cpu().double()


def check_finite_rows(rows: Tensor, start: int = 0) -> None:
    """Raise NumericalError at the first row that is not finite; `start` is the number of row 0."""
    if not math.isfinite(float(rows.sum())) and (bad := rows_not_finite(rows)):
        raise NumericalError(
            f"row {start + bad[0]} of the vectors holds NaN or infinity and cannot be scored; "
            "leave it out, and count it."
        )


def row_cosines(x: Tensor, y: Tensor) -> Tensor:
    """(n, E) and (n, E), or (E,), float64 -> (n,) cosines; a zero vector gives 0."""
    lengths = (vecdot(x, x) * vecdot(y, y)).sqrt()
    cosines: Tensor = vecdot(x, y) / lengths
    return cosines.masked_fill(lengths == 0, 0.0).clamp(-1, 1)


def unit(rows: Tensor) -> Tensor:
    """Rows at unit length; a zero vector stays zero."""
    lengths: Tensor = vecdot(rows, rows)[..., None].sqrt()
    return rows / lengths.masked_fill(lengths == 0, 1.0)


class RunningMean:
    """The mean of any number of values or rows that come block by block; holds one float64 sum."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        """Add (n,) values, or (n, E) rows of one size."""
        self.count += len(rows)
        self._sum = self._sum + rows.double().sum(0)

    @property
    def mean(self) -> Tensor:
        """() or (E,) float64.

        Raises:
            ConfigError: nothing was added.
        """
        if not self.count:
            raise ConfigError("there is no mean of no values; add some first.")
        return torch.as_tensor(self._sum, dtype=torch.float64) / self.count


def mean_unit(rows: Rows) -> Tensor:
    """(E,) the mean of the unit vectors of (N, E) rows.

    Raises:
        ConfigError: no rows.
    """
    mean = RunningMean()
    for (block,) in row_blocks(rows):
        mean.add(unit(block))
    return mean.mean
