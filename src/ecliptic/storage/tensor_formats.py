"""Our own kinds of safetensors files: tensors, and one JSON object of facts about them.

The facts are in the metadata, under a key that tells the kind, with the version of the format and a
checksum of all that the file holds.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.storage.paths import check_path
from ecliptic.storage.replacing import replace_file
from ecliptic.storage.safetensors_files import read_safetensors, write_safetensors
from ecliptic.storage.text_files import parse_json

SUFFIX = ".safetensors"
_FORMAT, _CHECKSUM = "format", "checksum"  # beside the facts


@dataclass(frozen=True)
class TensorFormat:
    """A kind of file."""

    kind: str  # for people, such as "classifier"
    version: int  # increased when older versions cannot read the new files

    @property
    def key(self) -> str:
        """The name of its facts among the metadata."""
        return f"ecliptic_{self.kind}"

    def check_name(self, path: Path) -> None:
        """Raise StorageError unless the name is one of such a file."""
        check_path(path)
        if path.suffix.lower() != SUFFIX:
            raise StorageError(f"{path} must end in {SUFFIX}, the format of a {self.kind}'s file.")

    def write(
        self,
        path: Path | str,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        *,
        overwrite: bool = False,
    ) -> None:
        """Write a file.

        Args:
            path: of the file.
            facts: JSON values.
            tensors: by their names.
            overwrite: replace an existing file.

        Raises:
            StorageError: another suffix, the file exists and `overwrite` is False, or it cannot be
                written.
        """
        path = Path(path)
        self.check_name(path)
        if os.path.lexists(path) and not overwrite:
            raise StorageError(f"{path} exists; choose another path, or pass overwrite=True.")
        own = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        about = {_FORMAT: self.version, **facts}
        about[_CHECKSUM] = _sum_up(about, own)
        metadata = {"format": "pt", self.key: json.dumps(about)}
        replace_file(path, partial(write_safetensors, tensors=own, metadata=metadata))

    def read(self, path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The facts and the tensors of a file that `write` wrote; the tensors are copies.

        Raises:
            StorageError: there is no such file.
            CorruptFileError: another kind of file, damaged, or changed by hand.
        """
        path = Path(path)
        check_path(path)
        if not path.is_file():
            raise StorageError(f"there is no file {path}; check the path.")
        file = read_safetensors(path)
        if self.key not in file.metadata:
            raise CorruptFileError(f"{path} is no {self.kind}: its metadata has no {self.key}.")
        about = parse_json(file.metadata[self.key], f"{path}: its {self.key} metadata")
        if about.get(_FORMAT) != self.version:
            raise CorruptFileError(
                f"{path} has format {about.get(_FORMAT)!r}, this ecliptic reads {self.version}; a "
                "newer version wrote it (upgrade), or its JSON is damaged."
            )
        if _CHECKSUM not in about:
            raise CorruptFileError(
                f"{path} has no checksum, as in files of older builds; make the {self.kind} again."
            )
        if about.pop(_CHECKSUM) != _sum_up(about, file.tensors):
            raise CorruptFileError(
                f"{path} was changed after it was written: its checksum does not fit what it "
                f"holds. Make the {self.kind} again."
            )
        del about[_FORMAT]
        return about, {name: tensor.clone() for name, tensor in file.tensors.items()}


def _sum_up(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the JSON of a file, without its checksum, and of all tensors."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
