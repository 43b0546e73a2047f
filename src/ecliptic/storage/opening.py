"""Opens files for reading without waiting: FIFOs, devices and sockets are refused.

`open` waits for ever at a FIFO that nobody writes, and `/dev/zero` never ends. Between a check of
the name and `open`, another process can replace the file. So the file is opened first, without
waiting, and what was opened is checked.
"""

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import IO

from ecliptic.errors import CorruptFileError, EclipticError, StorageError
from ecliptic.storage.paths import check_path

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(
    path: str | os.PathLike[str],
    error: Callable[[str], EclipticError] = StorageError,
    *,
    instead: str = "",
) -> BufferedReader:
    """Open a regular file for reading bytes; links are followed.

    Args:
        path: of the file.
        error: the class to raise for anything that is not a regular file.
        instead: what to do about it, the end of the message.

    Raises:
        StorageError: or `error`: it is a folder, pipe, device or socket.
        OSError: it does not exist or cannot be opened.
    """
    end = f"; {instead}." if instead else "."
    check_path(path, error)
    try:
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    except IsADirectoryError:
        raise error(f"{Path(path)} is a folder, but must be a file{end}") from None
    except OSError as problem:
        if problem.errno == errno.ENXIO:  # a socket
            raise error(f"{Path(path)} is a socket, but must be a regular file{end}") from None
        raise
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise error(f"{Path(path)} is {describe_kind(mode)}, but must be a regular file{end}")
    return file


def describe_kind(mode: int) -> str:
    """What a file of this `st_mode` is, if it is not a regular file: "a device"."""
    return next((kind for test, kind in _KINDS if test(mode)), "of an unknown kind")


def size_of(file: IO[bytes]) -> int:
    """The size of an open file in bytes, whatever its name is now."""
    return os.fstat(file.fileno()).st_size


def read_regular(
    path: str | os.PathLike[str],
    limit: int,
    error: Callable[[str], EclipticError] = StorageError,
) -> bytes:
    """Read a regular file of at most `limit` bytes; never more than one byte beyond them.

    Raises:
        StorageError: or `error`: it is not a regular file, or larger.
        OSError: it does not exist or cannot be read.
    """
    with open_regular(path, error) as file:
        size = size_of(file)
        data = file.read(size + 1) if size <= limit else b""  # `read` reserves what it is asked for
        if len(data) > size:  # it grows, or has no size, as those in /proc
            data += file.read(limit + 1 - len(data))
    if max(size, len(data)) > limit:
        raise error(f"{Path(path)} has more than {limit} bytes, too many for a file of its kind.")
    return data


def map_file(
    path: str | os.PathLike[str], error: Callable[[str], EclipticError] = CorruptFileError
) -> mmap.mmap:
    """Map the bytes of a regular file copy-on-write: writing to them never changes the file.

    To replace a file that may be mapped, rename a new one over it; truncating it in place crashes
    the reading process.

    Raises:
        CorruptFileError: or `error`: the file is empty, not a regular file, or cannot be mapped.
        OSError: it does not exist or cannot be opened.
    """
    with open_regular(path, error) as file:
        if not size_of(file):
            raise error(f"{Path(path)} is empty (0 bytes); fetch it again.")
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as problem:  # no mappings on this file system, or just emptied
            raise error(
                f"{Path(path)} cannot be mapped into memory ({problem}); copy it to a local disk."
            ) from problem


def hash_file(
    path: str | os.PathLike[str], error: Callable[[str], EclipticError] = StorageError
) -> "hashlib._Hash":
    """SHA-256 of a regular file, which is read in pieces; more bytes can be added to it.

    Raises:
        StorageError: or `error`: it is not a regular file.
        OSError: it does not exist or cannot be read.
    """
    with open_regular(path, error) as file:
        return hashlib.file_digest(file, "sha256")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAIT)
