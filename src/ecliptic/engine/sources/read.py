"""`read_items` turns images, folders, globs, tables and standard input into items."""

from collections.abc import Iterator

from ecliptic.engine.sources.folders import image_files
from ecliptic.engine.sources.items import Item, Kind, escape_surrogates, image_item, text_item
from ecliptic.engine.sources.lines import STDIN, stream_lines
from ecliptic.engine.sources.tables import Columns, is_table, read_table
from ecliptic.engine.sources.tars import is_tar, tar_items


def read_items(path: str, columns: Columns) -> Iterator[Item]:
    """The items of an image, a folder, a glob, a table, a tar, or of standard input for "-".

    Args:
        path: the name that the user gave.
        columns: of a table; their kind is also the kind of standard input.

    Raises:
        InputError: a folder without images.
        StorageError: a table or tar that cannot be read, or a table without the column.
    """
    if path == STDIN:
        return line_items(path, columns.kind)
    if is_table(path):
        return read_table(path, columns)
    return tar_items(path) if is_tar(path) else image_files(path)


def line_items(path: str, kind: Kind) -> Iterator[Item]:
    """A text, or the path of an image, from each line that is not blank."""
    make = text_item if kind == "text" else image_item
    for number, line in stream_lines(path):
        if isinstance(line, str):
            yield make(line)
        else:
            yield Item(f"{escape_surrogates(path)}, line {number}", "", line)
