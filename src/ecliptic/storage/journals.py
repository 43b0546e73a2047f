"""Files that grow by whole lines, and a lock for one writer.

A line is on the disk when `append_line` returns. A killed writer leaves at most a part of a line at
the end, which readers leave out and the next writer cuts off.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ecliptic.errors import StorageError
from ecliptic.storage.opening import open_regular, read_regular
from ecliptic.storage.replacing import explain_errors, sync_folder

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_LARGEST = 1 << 30  # bytes of a journal
_HEAD = 64  # bytes that tell a journal from another one with the same, used again, inode


def append_line(path: Path, line: str) -> None:
    """Append `line` and a newline to a file, which is made if it does not exist.

    Call it only while no other process writes the file.

    Raises:
        ValueError: the line holds a newline.
        StorageError: it cannot be written; the lines before are still there.
    """
    if "\n" in line:
        raise ValueError("a line of a journal cannot hold a newline")
    with explain_errors(path):
        existed = path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # of a killed writer
                    file.seek(0)
                    end = file.read().rfind(b"\n") + 1
            file.seek(end)
            file.truncate()
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if not existed:
            sync_folder(path.parent)


def read_whole_lines(path: Path) -> list[str]:
    """The lines of a file that end with a newline; none if there is no file.

    Raises:
        StorageError: it is not a regular file, or cannot be read.
    """
    try:
        data = read_regular(path, _LARGEST)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    return _split(data)


def _split(data: bytes) -> list[str]:
    """Whole lines; only a newline ends one."""
    return data.decode(errors="replace").split("\n")[:-1]


@dataclass(frozen=True)
class JournalPlace:
    """How far a journal was read."""

    file: tuple[int, int, bytes]  # device, inode and first bytes; others if it was written anew
    end: int  # bytes


def read_new_lines(path: Path, seen: JournalPlace | None) -> tuple[list[str], JournalPlace | None]:
    """The whole lines after the place `seen`, and the place after them.

    Args:
        path: of the journal.
        seen: the place that the last call gave; None at first.

    Returns:
        the lines and the new place. If its `file` is another one than before, the journal was
        written anew, and these are all its lines; None if there is no journal.

    Raises:
        StorageError: it is not a regular file, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            about = os.fstat(file.fileno())
            found = (about.st_dev, about.st_ino, file.read(_HEAD))
            start = seen.end if seen and seen.file == found and seen.end <= about.st_size else 0
            file.seek(start)
            data = file.read(_LARGEST)
    except FileNotFoundError:
        return [], None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    data = data[: data.rfind(b"\n") + 1]
    return _split(data), JournalPlace(found, start + len(data))


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until these files, their names in their folders, and these folders are on the disk.

    Raises:
        StorageError: the disk reports an error.
    """
    folders = set[Path]()
    for path in paths:
        folders |= {path.parent, path.parent.parent}  # which may both be new
        with explain_errors(path), suppress(FileNotFoundError):
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
    for folder in folders:
        sync_folder(folder)


class WriterLock:
    """A lock between processes; the system frees it when its owner ends or is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path)

    @contextmanager
    def hold(self, wait: float) -> Iterator[None]:
        """Hold the lock inside the block; it may be entered again by the same thread.

        Args:
            wait: seconds until it is given up.

        Raises:
            StorageError: another process holds it for so long, or its file cannot be made.
        """
        try:
            self._lock.acquire(timeout=wait)
        except Timeout:
            raise StorageError(
                f"{self._path.parent} is being written by another process, which did not end "
                f"within {wait:g} seconds; wait for it, or stop it."
            ) from None
        except OSError as error:
            raise StorageError(
                f"{self._path.parent} cannot be written: {error.strerror or error}; check its "
                "permissions and the free space."
            ) from error
        try:
            yield
        finally:
            self._lock.release()
