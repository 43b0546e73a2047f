"""Files that grow by whole lines, and a lock for one writer.

A line is on the disk when `append_line` returns. A killed writer leaves at most a part of a line at
the end, which readers leave out and the next writer cuts off.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ecliptic.errors import StorageError
from ecliptic.storage.opening import read_regular
from ecliptic.storage.replacing import explain_errors, sync_folder

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_LARGEST = 1 << 30  # bytes of a journal


def append_line(path: Path, line: str) -> None:
    """Append `line` and a newline to a file, which is made if it does not exist.

    Call it only while no other process writes the file.

    Raises:
        StorageError: it cannot be written; the lines before are still there.
    """
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
    return data[: data.rfind(b"\n") + 1].decode(errors="replace").splitlines()


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until these files, and their names in their folders, are on the disk.

    Raises:
        StorageError: the disk reports an error.
    """
    folders = set()
    for path in paths:
        folders.add(path.parent)
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
