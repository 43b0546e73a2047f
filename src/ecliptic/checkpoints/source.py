"""One file or folder on disk, opened once for every layout that looks at it.

Reading bytes safely is the work of `storage`, deciding what they mean that of the layouts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.errors import CorruptFileError, UnknownModelError, UnsupportedLayoutError
from ecliptic.storage import WEIGHT_SUFFIXES, read_json, read_shards, read_tensors


@dataclass(frozen=True)
class State:
    """The tensors of one file (or one sharded set) under flat names."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]  # safetensors' strings, or a TorchScript module's numbers


class Source:
    """A path that exists; folders know their files, `open` reads weights once."""

    def __init__(self, path: Path) -> None:
        if not path.is_file() and not path.is_dir():  # a pipe would be waited for
            raise UnknownModelError(str(path))
        self.path = path
        self.folder = path.is_dir()
        self._open: dict[Path, State] = {}

    @cached_property
    def files(self) -> frozenset[str]:
        """Names of the files directly in the folder; empty for a file."""
        if not self.folder:
            return frozenset()
        return frozenset(p.name for p in self.path.iterdir() if p.is_file())

    @property
    def stem(self) -> str:
        """What a checkpoint without a name is called."""
        return self.path.name if self.folder else self.path.stem

    def first(self, *names: str) -> str | None:
        """The first of `names` that lies in the folder."""
        return next((name for name in names if name in self.files), None)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty if there is no such file."""
        return read_json(self.path / name) if name in self.files else {}

    def open(self, name: str | None = None) -> State:
        """The weights in `name` of a folder, or in the file itself."""
        path = self.path / name if name else self.path
        if name and name not in self.files:
            raise CorruptFileError(f"{path} is missing, or no regular file; fetch it again.")
        if path not in self._open:
            self._open[path] = _read(path)
        return self._open[path]


def single_weights(source: Source) -> Source:
    """The only weights file of a folder that no config describes."""
    found = sorted(name for name in source.files if name.endswith(WEIGHT_SUFFIXES))
    if len(found) == 1:
        return Source(source.path / found[0])
    holds = f"holds {', '.join(found)}" if found else "holds no weights"
    raise UnsupportedLayoutError(
        f"the folder {source.path} {holds} and no config that says what they are; "
        "name one file, or a folder with ecliptic.json, open_clip_config.json or config.json."
    )


def _read(path: Path) -> State:
    if path.name.endswith(".index.json"):
        return _plain(read_shards(path).tensors, {}, path)
    file = read_tensors(path)
    return _plain(file.tensors, file.metadata, path)


def _plain(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: Path) -> State:
    """The state dict out of what training scripts save around it.

    "state_dict." holds the weights of open_clip's and Lightning's checkpoints (beside "epoch",
    "optimizer", ...); "module." is torch's DistributedDataParallel.
    """
    for prefix in ("state_dict.", "module."):
        inner = {name for name in tensors if name.startswith(prefix)}
        if inner and (prefix == "state_dict." or len(inner) == len(tensors)):
            tensors = {
                name.removeprefix(prefix): tensors[name] for name in tensors if name in inner
            }
    if not tensors:
        raise UnsupportedLayoutError(
            f"{path} holds no tensors by name; a state dict, or a dict with one under "
            "`state_dict`, is needed."
        )
    return State(tensors, metadata)
