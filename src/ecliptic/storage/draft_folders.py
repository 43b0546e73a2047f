"""Writes the files of a folder all or none: into a hidden folder first, then moved.

For libraries that write several files by name, one of which names another. `replacing.py` writes
single files, and sets of files whose writers take a path each. A killed run leaves at most the
hidden folder, `.NAME.….draft`.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from ecliptic.storage.paths import check_path, make_folder
from ecliptic.storage.replacing import explain_errors, refuse_special, sync_folder

_KEPT = 40  # characters of the folder's name in the draft's


def fill_folder(
    folder: Path, write: Callable[[Path], object], *, last: str, stale: Iterable[str] = ()
) -> None:
    """Write the files of `folder` into a draft, and move them when all are written.

    A folder that does not exist appears whole. In an existing one, files of the same names are
    replaced and other files stay.

    Args:
        folder: made if it does not exist.
        write: gets the path of the draft, an empty folder; it raises to keep what exists.
        last: the file that identifies the set. It is removed first and moved last, so that a folder
            of a killed run has none.
        stale: names of files of an older set, removed if they are not written again.

    Raises:
        StorageError: it cannot be written, or a file, pipe or device is in the place of a folder,
            or a folder in that of a file; what exists is unchanged.
    """
    check_path(folder)
    make_folder(folder.parent)
    exists = os.path.lexists(folder)
    if exists:
        make_folder(folder)  # raises for a file
    place = folder if exists else folder.parent
    draft = place / f".{folder.name[:_KEPT]}.{secrets.token_hex(8)}.draft"
    with explain_errors(folder):
        draft.mkdir()
        try:
            write(draft)
            _sync(draft)
            if exists:
                _move(draft, folder, last, stale)
            else:
                draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        sync_folder(place)


def _move(draft: Path, folder: Path, last: str, stale: Iterable[str]) -> None:
    names = sorted((path.name for path in draft.iterdir()), key=lambda name: (name == last, name))
    old = {last, *stale} - set(names)
    for name in (*names, *old):
        refuse_special(folder / name)
    (folder / last).unlink(missing_ok=True)
    for name in names:
        (draft / name).replace(folder / name)
    for name in old:
        (folder / name).unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Make the files survive a power cut."""
    for path in folder.iterdir():
        file = os.open(path, os.O_RDWR)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    sync_folder(folder)
