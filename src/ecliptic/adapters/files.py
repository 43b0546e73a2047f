"""Finds the file of an adapter in a folder, and computes its digest."""

from collections.abc import Sequence
from pathlib import Path

from ecliptic.errors import CorruptFileError, UnknownModelError
from ecliptic.storage import check_path, hash_file

DIVERGED = (
    "the training diverged or the file is damaged; use an earlier training step or fetch it again."
)


def find_file(path: Path, names: Sequence[str], what: str) -> Path:
    """The file at `path`, or the first of `names` in the folder `path`.

    Args:
        path: a file or folder.
        names: files that projects save into a folder, best first.
        what: its kind, for messages: "LoRA".

    Raises:
        UnknownModelError: no such file, or a folder with none of `names`.
    """
    check_path(path)
    if path.is_dir():
        found = [path / name for name in names if (path / name).is_file()]
        if found:
            return found[0]
        raise UnknownModelError(
            str(path), fix=f"the folder has none of {', '.join(names)}; pass the file."
        )
    if not path.is_file():
        raise UnknownModelError(str(path), fix=f"check the path of the {what} file.")
    return path


def sha256_of(file: Path, *more: bytes) -> str:
    """SHA-256 of the file, followed by `more`, in hexadecimal."""
    digest = hash_file(file, CorruptFileError)
    for data in more:
        digest.update(data)
    return digest.hexdigest()
