"""`Source`: a file or folder on disk, opened once and shared by all layouts.

`storage` reads the bytes safely, and the layouts decide what they mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.errors import CorruptFileError, UnknownModelError, UnsupportedLayoutError
from ecliptic.storage import WEIGHT_SUFFIXES, check_path, read_json, read_shards, read_tensors


@dataclass(frozen=True)
class State:
    """The tensors of one file (or one sharded set) under flat names."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]  # safetensors' strings, or a TorchScript module's numbers


class Source:
    """An existing path; lists the files of a folder, and reads each weights file once."""

    def __init__(self, path: Path) -> None:
        check_path(path)
        if not path.is_file() and not path.is_dir():  # reading a pipe would block
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
        """The name of a checkpoint that states none."""
        return self.path.name if self.folder else self.path.stem

    def first(self, *names: str) -> str | None:
        """The first of `names` that is in the folder."""
        return next((name for name in names if name in self.files), None)

    def find_weights(self, config: str, names: tuple[str, ...]) -> str:
        """The first of `names` that is in the folder of the file `config`."""
        if name := self.first(*names):
            return name
        raise UnsupportedLayoutError(
            f"{self.path} has {config} but none of {', '.join(names)}; "
            "download the weights into the same folder."
        )

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; empty if there is no such file."""
        return read_json(self.path / name) if name in self.files else {}

    def open(self, name: str | None = None) -> State:
        """The weights in the file `name` of the folder, or in the file itself."""
        path = self.path / name if name else self.path
        if name and name not in self.files:
            raise CorruptFileError(f"{path} is missing or is not a regular file; fetch it again.")
        if path not in self._open:
            self._open[path] = _read(path)
        return self._open[path]


def find_single_weights(source: Source) -> Source:
    """The only weights file of a folder without a config."""
    found = sorted(name for name in source.files if name.endswith(WEIGHT_SUFFIXES))
    if len(found) == 1:
        return Source(source.path / found[0])
    holds = f"holds {', '.join(found)}" if found else "holds no weights"
    raise UnsupportedLayoutError(
        f"the folder {source.path} {holds} and no config that describes them; pass one file, "
        "or a folder with ecliptic.json, open_clip_config.json or config.json."
    )


def _read(path: Path) -> State:
    if path.name.endswith(".index.json"):
        return _unwrap(read_shards(path).tensors, {}, path)
    file = read_tensors(path)
    return _unwrap(file.tensors, file.metadata, path)


def _unwrap(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], path: Path) -> State:
    """Take the state dict out of what training scripts save with it.

    "state_dict." holds the weights of open_clip's and Lightning's checkpoints (beside "epoch",
    "optimizer", ...), "model_state_dict." those of PyTorch's tutorials; torch's
    DistributedDataParallel adds "module." to every name.
    """
    for prefix in ("state_dict.", "model_state_dict.", "module."):
        inner = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        if inner and (prefix != "module." or len(inner) == len(tensors)):
            tensors = inner
    if not tensors:
        raise UnsupportedLayoutError(
            f"{path} holds no named tensors; pass a state dict, or a dict with one under "
            "`state_dict` or `model_state_dict`."
        )
    return State(tensors, metadata)
