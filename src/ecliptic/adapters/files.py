"""The one reader of adapter files: a file or a folder, safetensors or PyTorch, by its content."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ecliptic.errors import UnknownModelError
from ecliptic.storage import TensorFile, TorchArchive, read_tensors

DIVERGED = (
    "the training diverged or the file is damaged; use an earlier step of it or fetch it again."
)


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """The content of one file."""

    path: Path
    stored: TensorFile | TorchArchive

    @property
    def content(self) -> object:
        """As it lies in the file: tensors by name, or whatever a PyTorch file holds."""
        return self.stored.tree if isinstance(self.stored, TorchArchive) else self.stored.tensors

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Every tensor under its dotted name."""
        return self.stored.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """The text beside the tensors; PyTorch files have none."""
        return self.stored.metadata if isinstance(self.stored, TensorFile) else {}


def find_file(path: Path, names: Sequence[str], what: str) -> Path:
    """The file at `path`, or the first of `names` in the folder `path`.

    Args:
        path: a file or folder.
        names: files that projects save into a folder, best first.
        what: of what kind, for messages: "LoRA".

    Raises:
        UnknownModelError: no such file, or a folder with none of `names`.
    """
    if path.is_dir():
        found = [path / name for name in names if (path / name).is_file()]
        if found:
            return found[0]
        raise UnknownModelError(
            str(path), fix=f"the folder has none of {', '.join(names)}; pass the file."
        )
    if not path.is_file():
        raise UnknownModelError(str(path), fix=f"check the path of the {what}'s file.")
    return path


def read_file(file: Path) -> AdapterFile:
    """What `file` holds, by its first bytes and not by its name.

    Raises:
        UnsafeFileError: a pickle that wants more than tensors.
        CorruptFileError: damaged, or no weights at all.
    """
    return AdapterFile(file, read_tensors(file))


def sha256_of(file: Path, *more: bytes) -> str:
    """SHA-256 of the file, and of what belongs to it, in hexadecimal."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    for data in more:
        digest.update(data)
    return digest.hexdigest()
