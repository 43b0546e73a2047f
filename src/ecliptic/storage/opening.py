"""Opens files for reading without waiting: FIFOs, devices and sockets are refused.

`open` waits for ever at a FIFO that nobody writes, and `/dev/zero` never ends. Between a check of
the name and `open`, another process can replace the file. So the file is opened first, without
waiting, and what was opened is checked.
"""

import errno
import os
import stat
from pathlib import Path
from typing import IO

from ecliptic.errors import EclipticError, StorageError
from ecliptic.storage.paths import check_path

_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(
    path: str | os.PathLike[str], error: type[EclipticError] = StorageError
) -> IO[bytes]:
    """Open a regular file for reading bytes; links are followed.

    Args:
        path: of the file.
        error: the class to raise for anything that is not a regular file.

    Raises:
        StorageError: or `error`: it is a folder, pipe, device or socket.
        OSError: it does not exist or cannot be opened.
    """
    check_path(path, error)
    try:
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115 - the caller closes it
    except IsADirectoryError:
        raise error(f"{Path(path)} is a folder, but must be a file.") from None
    except OSError as problem:
        if problem.errno == errno.ENXIO:  # a socket
            raise error(f"{Path(path)} is a socket, but must be a regular file.") from None
        raise
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        kind = next((kind for test, kind in _KINDS if test(mode)), "of an unknown kind")
        raise error(f"{Path(path)} is {kind}, but must be a regular file.")
    opened: IO[bytes] = file
    return opened


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | _NO_WAIT)
