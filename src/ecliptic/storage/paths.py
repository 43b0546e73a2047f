"""Checks the names of files before they are used, makes folders, and names the cache folder.

The system's calls raise ValueError and UnicodeEncodeError for names that no file can have.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

from ecliptic.errors import EclipticError, StorageError

CACHE_VARIABLE = "ECLIPTIC_CACHE"  # of the environment; names another cache folder
_QUOTED = 200  # characters of a name in a message


def check_path(
    path: str | os.PathLike[str], error: Callable[[str], EclipticError] = StorageError
) -> None:
    """Check that a file or folder can have the name `path`; it need not exist.

    Args:
        path: the name.
        error: the class to raise.

    Raises:
        StorageError: or `error`: the name is too long, or holds NUL or half a character.
    """
    try:
        os.lstat(path)
    except (ValueError, OSError) as problem:
        reason = _explain(problem)
        if reason:
            quoted = f"{os.fspath(path)[:_QUOTED]!r}"
            raise error(f"{quoted} cannot be the name of a file: {reason}.") from None


def _explain(problem: ValueError | OSError) -> str:
    """Why a name is impossible; "" if the file is merely missing or forbidden."""
    if isinstance(problem, OSError):
        return "it is too long" if problem.errno == errno.ENAMETOOLONG else ""
    if isinstance(problem, UnicodeEncodeError):
        return "it holds a lone surrogate, which is half a character"
    return "it holds the character NUL"


def make_folder(folder: Path, error: Callable[[str], EclipticError] = StorageError) -> None:
    """Make `folder`, and the folders above it, unless it exists.

    Raises:
        StorageError: or `error`: it cannot be made.
    """
    check_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise error(
            f"{folder} cannot be a folder, because it or a folder above it is a file; choose "
            "another path."
        ) from None
    except OSError as problem:
        raise error(
            f"the folder {folder} cannot be made: {problem.strerror}; pass a folder you may write "
            "to."
        ) from problem


def cache_folder() -> Path:
    """The folder for what can be measured or made again; it need not exist and may be deleted.

    It is `$ECLIPTIC_CACHE`, else `ecliptic` in `$XDG_CACHE_HOME` or in `~/.cache`. Raises
    RuntimeError when the user has no home folder.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    above = os.environ.get("XDG_CACHE_HOME")
    return (Path(above) if above else Path.home() / ".cache") / "ecliptic"
