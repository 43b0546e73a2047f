"""Checks the files that a command will write, before it begins its work."""

import os
from collections.abc import Iterable
from pathlib import Path

from ecliptic.errors import StorageError
from ecliptic.storage.paths import check_path, make_folder
from ecliptic.storage.replacing import refuse_special, try_folder


def check_outputs(
    outputs: Iterable[Path],
    inputs: Iterable[str | os.PathLike[str]] = (),
    *,
    force: bool = False,
    make_folders: bool = False,
) -> None:
    """Raise before the work unless all `outputs` can be written and none is precious.

    Args:
        outputs: every file of the command, also the ones that it writes only in some cases.
        inputs: what the command reads; names that are no existing paths are ignored. They are
            read only if an output exists.
        force: existing files may be replaced, but never an input.
        make_folders: make the folders of the outputs; otherwise they must exist.

    Raises:
        StorageError: an output exists and `force` is false, is a folder or device, is also an
            input or another output, or nothing can be written in its folder.
    """
    outputs = list(outputs)
    for path in outputs:
        check_path(path)
        refuse_special(path)
        if os.path.lexists(path) and not force:
            raise StorageError(f"{path} exists; pass --force to replace it, or another path.")
    _refuse_equal(outputs)
    refuse_inputs(outputs, inputs)
    for folder in dict.fromkeys(path.parent for path in outputs):
        check_folder(folder, make=make_folders)


def check_folder(folder: Path, *, make: bool) -> None:
    """Raise unless files can be written in `folder`; `make` it if it does not exist.

    Raises:
        StorageError: it is missing, no folder, or nothing can be written in it.
    """
    if make and not folder.exists():
        make_folder(folder)
    if not folder.is_dir():
        raise StorageError(f"{folder} is not a folder; choose a path in an existing folder.")
    try_folder(folder)


def _refuse_equal(outputs: list[Path]) -> None:
    places = [path.parent.resolve() / path.name for path in outputs]
    for path, place in zip(outputs, places, strict=True):
        if places.count(place) > 1:
            raise StorageError(
                f"{path} would be written twice by this command; give its files different paths."
            )


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise StorageError if an existing file or folder is among both; the inputs may be names."""
    existing = {_identify(path): path for path in outputs}
    existing.pop(None, None)
    if not existing:
        return
    for given in inputs:
        if path := existing.get(_identify(given)):
            raise StorageError(
                f"{path} is read by this command, so it cannot be written too; choose another path."
            )


def _identify(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Device and number of an existing file; None for a name that is no path."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
