"""Imports Lance, and turns its errors into ours.

Lance is imported when a table is opened (0.4 s and 100 MB). It must not be used after a fork.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ecliptic.errors import MissingExtraError, StorageError

FAILURES = (ValueError, OSError, RuntimeError)  # Lance's own, and those of pyarrow
_MISSING = ("Not found", "not found", "No such file")
_FULL = ("No space left", "StorageFull", "os error 28")
_FORBIDDEN = ("Permission denied", "os error 13", "Read-only file system", "os error 30")


def import_lance() -> Any:
    """The module `lance`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import lance
    except ImportError:
        raise MissingExtraError(
            "stored collections of vectors need Lance; `pip install 'ecliptic[search]'`."
        ) from None
    return lance


def is_missing(error: Exception) -> bool:
    """Whether Lance says that a file is not there (any more)."""
    return any(text in str(error) for text in _MISSING)


@contextmanager
def explained(folder: Path, doing: str) -> Iterator[None]:
    """Raise StorageError for errors of Lance inside the block.

    Args:
        folder: of the table.
        doing: "read" or "written", for the message.
    """
    try:
        yield
    except FAILURES as error:
        if type(error).__module__.startswith("ecliptic"):
            raise
        raise StorageError(f"{folder} cannot be {doing}: {_advise(str(error))}") from error


def _advise(text: str) -> str:
    if any(part in text for part in _FULL):
        return (
            "the disk is full; nothing of this step was stored, so free some space and repeat it."
        )
    if any(part in text for part in _FORBIDDEN):
        return "it is not allowed; check the permissions of the folder."
    short = " ".join(text.split())[:300]
    return f"{short}. `check` tells what is damaged, and `repair` mends what can be mended."
