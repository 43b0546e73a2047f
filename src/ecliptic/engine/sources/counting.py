"""Counts the items of a source before the work, where that is cheap, for progress bars."""

import os
import warnings
from pathlib import Path

from ecliptic.engine.sources.folders import LeftOutWarning
from ecliptic.engine.sources.lines import STDIN
from ecliptic.engine.sources.read import line_items, read_items
from ecliptic.engine.sources.tables import Columns, is_table
from ecliptic.engine.sources.tars import count_tar, is_tar
from ecliptic.errors import EclipticError
from ecliptic.storage import open_parquet

MOST_TO_READ = 1 << 26  # bytes of a file, 67,108,864, that are read only to count its rows


def count_items(path: str, columns: Columns) -> int | None:
    """The number of items that `read_items` gives for `path`; None if that is unknown or slow.

    Folders and globs are listed, Parquet tells its rows, other tables are read if they are small.
    A source with a problem is None: the work itself tells what is wrong.
    """
    try:
        if is_table(path) and Path(path).suffix.lower() == ".parquet":
            return int(open_parquet(path, "a .csv")[1].metadata.num_rows)
        if path == STDIN or (is_table(path) and _is_large(path)):
            return None
        if is_tar(path):
            return count_tar(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeftOutWarning)  # the work itself warns
            return sum(1 for _ in read_items(path, columns))
    except (EclipticError, OSError, ValueError):
        return None


def count_lines(path: str | os.PathLike[str]) -> int | None:
    """The number of texts in a file with one per line; None if that is unknown or slow."""
    try:
        if os.fspath(path) == STDIN or _is_large(path):
            return None
        return sum(1 for _ in line_items(os.fspath(path), "text"))
    except (EclipticError, OSError, ValueError):
        return None


def _is_large(path: str | os.PathLike[str]) -> bool:
    return Path(path).stat().st_size > MOST_TO_READ
