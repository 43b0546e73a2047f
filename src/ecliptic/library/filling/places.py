"""Where pictures are on the disk, and whether they are still there."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecliptic.engine import escape_surrogates

_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")
# Below these, systems show disks that come and go; the second level may be the user's name.
_DISKS = ("/media", "/mnt", "/run/media", "/Volumes")


def folder_of(path: str) -> str | None:
    """The folder of a file; None if it is no file."""
    return str(Path(path).parent) if path else None


def is_there(path: str) -> bool:
    """Whether a file or folder is there, even if it may not be looked at."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True


def absolute(path: str | os.PathLike[str]) -> str:
    """The absolute name of a file; links are kept."""
    found = os.path.abspath(path)  # noqa: PTH100 Path.resolve follows links
    return found[1:] if found.startswith("//") else found  # POSIX leaves open what `//` means


def name_file(path: str | os.PathLike[str]) -> str:
    """The absolute name of a file as ids have it: bytes that are no UTF-8 are escaped."""
    return escape_surrogates(absolute(path))


def is_gone(row: Mapping[str, Any]) -> bool:
    """Whether the file of a row is no longer there; False for what never was a file.

    What may not be looked at, or is on a disk with errors, is not gone. A folder that has the name
    now is not the file.
    """
    path = row["path"]
    if not isinstance(path, str):
        return False
    name = unescape(path)
    return not is_there(name) or os.path.isdir(name)  # noqa: PTH112 of any name


def may_be_away(path: str, place: str = "") -> bool:
    """Whether a file that is gone may be on a disk that is not connected now.

    So it is if the nearest folder that is there is empty, as a place of a disk is, or is a folder
    in which disks appear. An empty folder inside of `place` is only one without pictures.
    """
    for folder in Path(unescape(path)).parents:
        if is_there(str(folder)):
            disks = str(folder) in _DISKS or str(folder.parent) in _DISKS
            inside = bool(place) and Path(place) in folder.parents
            return disks or (is_empty(folder) and not inside)
    return False


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether the file of a row is gone, and not perhaps with its disk."""
    return is_gone(row) and not may_be_away(str(row["path"]))


def is_empty(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder has nothing in it; False for one that cannot be read, or is none."""
    try:
        with os.scandir(folder) as found:
            return next(found, None) is None
    except OSError:
        return False


def unescape(path: str) -> str:
    r"""The name of a file from its form in the store: \udcNN is a byte that is not UTF-8."""
    if os.path.lexists(path):
        return path
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), path)
