"""Opens Parquet files with pyarrow, an optional library that is imported when it is needed."""

import os
from collections.abc import Callable
from typing import Any

from ecliptic.errors import EclipticError, MissingExtraError, StorageError, printable
from ecliptic.storage.opening import map_file


def open_parquet(
    path: str | os.PathLike[str],
    instead: str,
    error: Callable[[str], EclipticError] = StorageError,
) -> tuple[Any, Any]:
    """Import pyarrow and open a Parquet file; return both.

    The file is mapped, because pyarrow's threads may use a Python file after it is closed.

    Raises:
        MissingExtraError: pyarrow is not installed; the message says what to write `instead`.
        StorageError: or `error`: the file is missing, damaged or not a regular file.
    """
    pa, parquet = import_parquet(instead)
    try:
        memory = map_file(path, error)
        return pa, parquet.ParquetFile(pa.BufferReader(pa.py_buffer(memory)))
    except pa.ArrowException as problem:
        raise error(f"{printable(path)} cannot be read: {str(problem)[:500]}") from None
    except OSError as problem:
        raise error(f"{printable(path)} cannot be read: {problem.strerror}.") from None


def import_parquet(instead: str) -> tuple[Any, Any]:
    """Import `pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingExtraError: pyarrow is not installed; the message says what to write `instead`.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            f"Parquet files need pyarrow; `pip install 'ecliptic[parquet]'`, or write {instead}."
        ) from None
    return pyarrow, pyarrow.parquet
