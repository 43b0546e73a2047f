"""Imports Lance, and turns its errors into ours.

Lance is imported when a table is opened (0.4 s and 100 MB). It must not be used after a fork.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from ecliptic.errors import EclipticError, MissingExtraError, StorageError

_FAILURES = (ValueError, OSError, RuntimeError)  # Lance's own, and those of pyarrow
_PANIC = "PanicException"  # of Rust, at damaged files; it derives from BaseException
_MISSING = ("Not found", "not found", "No such file")
_FULL = ("No space left", "StorageFull", "os error 28")
_FORBIDDEN = ("Permission denied", "os error 13", "Read-only file system", "os error 30")
# With three CPUs or fewer, Lance computes in a single thread, and work that waits for other work
# there waits for ever (lance-format/lance#7642). On one CPU it reads and writes in one thread too.
_LEAST_THREADS = {"LANCE_CPU_THREADS": 4, "LANCE_IO_THREADS": 8}
# glibc gives each of Lance's threads an arena of its own, whose free memory no other thread uses: a
# process that read while others wrote grew twice as fast with them (docs/log.md).
_M_ARENA_MAX, _ARENAS = -8, 2  # malloc.h of glibc; the number of arenas
_METADATA, _INDEXES = 4 << 20, 1 << 20  # bytes that Lance may remember; it has no indexes here
_LONGEST = 300  # characters of a message of Lance that are quoted


def import_lance() -> Any:
    """The module `lance`.

    Raises:
        MissingExtraError: it is not installed.
        StorageError: it was used before this process was forked.
    """
    if os.getpid() != _first_process():
        raise StorageError(
            "a store cannot be used in a process that was forked after the first use of one; "
            "start processes by the method `spawn`, and open it in each of them."
        )
    for name, least in _LEAST_THREADS.items():
        os.environ.setdefault(name, str(max(least, (os.cpu_count() or 1) - 2)))
    if "lance" not in sys.modules:
        _share_arenas()
    try:
        import lance
    except ImportError:
        raise MissingExtraError(
            "stored collections of vectors need Lance; `pip install 'ecliptic[search]'`."
        ) from None
    return lance


def _share_arenas() -> None:
    """Let all threads share few arenas, unless the user has decided; other C libraries differ."""
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


@cache
def _first_process() -> int:
    """The process that used Lance first: this one, or the one it was forked from."""
    return os.getpid()


def open_dataset(path: Path) -> Any:
    """Open a table of Lance.

    What Lance remembers of each version is limited, because by default it grows up to gigabytes in
    a process that reads while others write.
    """
    return import_lance().dataset(
        str(path), metadata_cache_size_bytes=_METADATA, index_cache_size_bytes=_INDEXES
    )


def is_failure(error: BaseException) -> bool:
    """Whether Lance raised `error` about its files."""
    known = isinstance(error, _FAILURES) or type(error).__name__ == _PANIC
    return known and not isinstance(error, EclipticError)


def is_missing(error: BaseException) -> bool:
    """Whether Lance says that a file is not there (any more)."""
    return is_failure(error) and any(text in str(error) for text in _MISSING)


@contextmanager
def explained(folder: Path, doing: str) -> Iterator[None]:
    """Raise StorageError for errors of Lance inside the block.

    Args:
        folder: of the table.
        doing: "read" or "written", for the message.
    """
    try:
        yield
    except BaseException as error:
        if not is_failure(error):
            raise
        raise StorageError(f"{folder} cannot be {doing}: {_advise(str(error))}") from error


def _advise(text: str) -> str:
    if any(part in text for part in _FULL):
        return (
            "the disk is full; free some space and repeat the step. Rows that were stored before "
            "are there, and no row is stored twice."
        )
    if any(part in text for part in _FORBIDDEN):
        return "it is not allowed; check the permissions of the folder."
    if any(part in text for part in _MISSING):
        return (
            "a file is gone. If another process joined files meanwhile, begin again; otherwise "
            "`ecliptic library check` tells what is missing, and `ecliptic library repair` mends "
            "what it can."
        )
    short = " ".join(text.split())[:_LONGEST]
    return (
        f"{short}. `ecliptic library check` tells what is damaged, and `ecliptic library repair` "
        "mends what it can."
    )
