"""A similarity matrix as an image: a coloured cell with a number per pair, labels on both axes.

R rows, C columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from ecliptic.checks import check_finite
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.plots.colours import RGB, WHITE, colour_at, ink_on
from ecliptic.plots.labels import Label, draw_label, font_of


@dataclass(frozen=True)
class MatrixStyle:
    """How a matrix is drawn; sizes are pixels."""

    cell: int = 64  # side of one cell
    decimals: int = 2  # of the numbers
    low: float | None = None  # value of the lightest colour; None: the smallest in the matrix
    high: float | None = None  # value of the darkest colour; None: the largest in the matrix
    mark_best: bool = True  # a frame around the largest value of each row
    smallest_number: int = 9  # font size; smaller numbers are left out

    def __post_init__(self) -> None:
        if self.cell < 4 or self.decimals < 0:
            raise ConfigError(
                f"a matrix needs cells of at least 4 pixels and decimals >= 0, got {self}."
            )
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError(f"low {self.low} must be smaller than high {self.high}.")


def similarity_matrix(
    cosines: ArrayLike,
    rows: Sequence[Label],
    columns: Sequence[Label],
    *,
    title: str = "",
    style: MatrixStyle | None = None,
) -> Image.Image:
    """Draw a heat map of `cosines` with labels; high values are dark.

    Args:
        cosines: (R, C) finite numbers: an array, a CPU tensor, nested lists.
        rows: R labels from top to bottom, texts or images; images become thumbnails.
        columns: C labels from left to right; turned upright if one is wider than a cell.
        title: one line above the matrix.
        style: sizes, number format and colour range.

    Returns:
        An RGB image on white.

    Raises:
        ShapeError: the labels do not fit the matrix, or a value is not finite.
    """
    style = style or MatrixStyle()
    values = _to_array(cosines, len(rows), len(columns))
    font = font_of(max(10, round(style.cell * 0.27)))
    left = [draw_label(label, style.cell - 6, font) for label in rows]
    top = _turn([draw_label(label, style.cell - 6, font) for label in columns], style.cell)
    heading = draw_label(title, style.cell, font_of(max(12, round(style.cell * 0.3))))
    return _compose(_draw_cells(values, style), left, top, heading if title else None, style.cell)


def _to_array(cosines: ArrayLike, rows: int, columns: int) -> NDArray[np.float64]:
    values = np.asarray(cosines, dtype=np.float64)
    if values.shape != (rows, columns) or not values.size:
        raise ShapeError(
            f"a matrix of shape {values.shape} does not fit {rows} row and {columns} column "
            "labels; pass one label per row and per column, at least one of each."
        )
    fix = "replace NaN and infinity, which have no colour."
    check_finite(values, "the matrix", fix, ShapeError)
    return values


def _turn(labels: list[Image.Image], cell: int) -> list[Image.Image]:
    """Turn all labels to read upwards if one of them is wider than a cell."""
    if max(label.width for label in labels) <= cell - 4:
        return labels
    return [label.transpose(Image.Transpose.ROTATE_90) for label in labels]


def _draw_cells(values: NDArray[np.float64], style: MatrixStyle) -> Image.Image:
    """Draw the coloured cells with their numbers, without labels."""
    low = values.min() if style.low is None else style.low
    high = values.max() if style.high is None else style.high
    span = high - low if high > low else 1.0  # equal values get the lightest colour
    drawn = Image.new("RGB", (values.shape[1] * style.cell, values.shape[0] * style.cell), WHITE)
    draw = ImageDraw.Draw(drawn)
    numbers = [[f"{value:z.{style.decimals}f}" for value in row] for row in values]
    points = min(style.cell * 0.27, style.cell * 1.5 / max(len(n) for row in numbers for n in row))
    font = font_of(points) if points >= style.smallest_number else None
    for (row, column), value in np.ndenumerate(values):
        colour = colour_at((value - low) / span)
        best = style.mark_best and len(values[row]) > 1 and column == values[row].argmax()
        middle = _draw_cell(draw, (column, row), style.cell, colour, framed=bool(best))
        if font:
            draw.text(middle, numbers[row][column], font=font, fill=ink_on(colour), anchor="mm")
    return drawn


def _draw_cell(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], size: int, colour: RGB, *, framed: bool
) -> tuple[float, float]:
    """Draw a rounded square at (column, row) `place`; returns its centre."""
    gap, radius = max(1, size // 32), size // 12
    x, y = place[0] * size, place[1] * size
    right, bottom = x + size - gap - 1, y + size - gap - 1
    draw.rounded_rectangle((x, y, right, bottom), radius, fill=colour)
    if framed:
        inside = (x + gap, y + gap, right - gap, bottom - gap)
        ink, thick = ink_on(colour), max(2, gap)
        draw.rounded_rectangle(inside, max(radius - gap, 0), outline=ink, width=thick)
    return (x + right) / 2, (y + bottom) / 2


def _compose(
    cells: Image.Image,
    left: list[Image.Image],
    top: list[Image.Image],
    heading: Image.Image | None,
    cell: int,
) -> Image.Image:
    """Put cells, labels and title on one white page."""
    margin, space = cell // 3, cell // 8
    x = margin + max(label.width for label in left) + space
    y = margin + (heading.height + 2 * space if heading else 0)
    y += max(label.height for label in top) + space
    width = max(x + cells.width + margin, heading.width + 2 * margin if heading else 0)
    page = Image.new("RGBA", (width, y + cells.height + margin), (*WHITE, 255))
    if heading:
        page.alpha_composite(heading, (margin, margin))
    for row, label in enumerate(left):
        centre = y + row * cell + (cell - label.height) // 2
        page.alpha_composite(label, (x - space - label.width, centre))
    for column, label in enumerate(top):
        centre = x + column * cell + (cell - label.width) // 2
        page.alpha_composite(label, (centre, y - space - label.height))
    page.paste(cells, (x, y))
    return page.convert("RGB")
