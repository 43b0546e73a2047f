"""Drawings as files: one sheet, or one file each."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from ecliptic.inputs import WHITE
from ecliptic.storage import replace_file, stream_writer

_GAP = 8  # pixels between drawings


def sheet(pictures: Sequence[Image.Image], columns: int = 4, larger: int = 3) -> Image.Image:
    """All pictures in rows on white, each `larger` times as wide.

    Args:
        pictures: of one size.
        columns: most pictures in a row.
        larger: factor of their size, so that 64 pixels can be seen.
    """
    width, height = (larger * side for side in pictures[0].size)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    whole = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    page = Image.new("RGB", whole, WHITE)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        large = picture.resize((width, height), Image.Resampling.LANCZOS)
        page.paste(large, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return page


def write_pictures(files: Sequence[Path], pictures: Sequence[Image.Image]) -> None:
    """Write one PNG for each picture.

    Raises:
        StorageError: a file cannot be written.
    """
    for file, picture in zip(files, pictures, strict=True):
        replace_file(file, stream_writer(partial(picture.save, format="PNG")))
