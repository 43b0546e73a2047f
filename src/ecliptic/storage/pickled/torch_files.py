"""Reads `.pt`, `.pth`, `.bin` and `.ckpt` files without running code in them.

torch.save archives, TorchScript archives (OpenAI's released models) and the files of PyTorch before
1.6 all describe tensors with a pickle. `pickles.py` turns the pickle into plain data; this module
checks each description against the bytes of the file, then maps the tensor without copying it.
"""

import io
import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError, UnsafeFileError, UnsupportedLayoutError
from ecliptic.storage import budget as limits
from ecliptic.storage.budget import Budget, name_file
from ecliptic.storage.mapping import bytes_tensor, is_countable, read_naturals
from ecliptic.storage.nesting import check_extent, count_values, visit_names, walk
from ecliptic.storage.opening import map_file
from ecliptic.storage.pickled import pickles
from ecliptic.storage.pickled.pickle_names import Inert, Module, Storage, TensorRecord
from ecliptic.storage.pickled.zip_archive import Archive
from ecliptic.storage.sniffing import refuse_kind, sniff

Scalar = bool | int | float | str
MAX_BITS = 512  # of a whole number; random generators store 128, and no float holds 1024


@dataclass(frozen=True)
class TorchArchive:
    """The content of a PyTorch file.

    `tree` has only dict, list, tuple, str, bytes, numbers, None, tensors (mapped, without
    gradient), and `Inert` for objects without a plain form. For a TorchScript archive it has the
    attributes of the modules, as nested dicts.
    """

    kind: Literal["zip", "torchscript", "legacy"]
    tree: object

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its dotted name; for a TorchScript archive, its state dict.

        Raises:
            CorruptFileError: two tensors have the same dotted name.
        """
        return self._named[0]

    @property
    def metadata(self) -> dict[str, Scalar]:
        """Every number and string by its dotted name, such as `input_resolution`.

        Raises:
            CorruptFileError: two tensors have the same dotted name.
        """
        return self._named[1]

    @cached_property
    def _named(self) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
        tensors: dict[str, Tensor] = {}
        metadata: dict[str, Scalar] = {}

        def keep(name: str, leaf: object) -> None:
            if isinstance(leaf, Tensor):
                if tensors.setdefault(name, leaf) is not leaf:
                    raise CorruptFileError(f"two tensors of the file have the name {name!r}.")
            elif isinstance(leaf, (bool, int, float, str)):
                metadata[name] = leaf

        visit_names(self.tree, keep)
        return tensors, metadata


def read_torch(path: Path | str) -> TorchArchive:
    """Read a file of torch.save or torch.jit.save without running its code.

    Tensors are mapped from the file, so reading costs little until they are used.

    Raises:
        UnsafeFileError: it asks for more than tensors in containers, or its parts overlap.
        CorruptFileError: truncated, another kind of file, or a tensor larger than its storage.
        UnsupportedLayoutError: written on a big-endian machine, or a torch.package.
    """
    path = Path(path)
    kind = sniff(path)
    if kind == "zip":
        return _read_zip(Archive(path))
    if kind == "legacy":
        return _read_legacy(path)
    return refuse_kind(path, kind, "weights saved by PyTorch")


def _read_zip(archive: Archive) -> TorchArchive:
    path = archive.path
    roots = [name[: -len("data.pkl")] for name in archive.entries if name.endswith("/data.pkl")]
    roots = [root for root in roots if root.count("/") == 1]
    if len(roots) != 1:
        raise UnsupportedLayoutError(
            f"{path} is a zip without the data.pkl of torch.save; if it is an archive that holds "
            "a checkpoint, unpack it and pass the file inside."
        )
    root = roots[0]
    if f"{root}byteorder" in archive.entries and archive.read(f"{root}byteorder", 16) != b"little":
        raise UnsupportedLayoutError(
            f"{path} was written on a big-endian machine; save it again on a little-endian one."
        )
    pickle = io.BytesIO(archive.read(f"{root}data.pkl", limits.MAX_PICKLE))
    budget = Budget.for_file(len(archive.memory))
    content = _load(pickle, path, budget)

    def storage_bytes(key: str) -> Tensor:
        entry = archive.entries.get(f"{root}data/{key}")
        if entry is None or entry.deflated:
            state = "missing" if entry is None else "compressed, which PyTorch never does"
            raise CorruptFileError(f"{path}: the storage data/{key} is {state}.")
        return bytes_tensor(archive.memory, entry.start, entry.size)

    tree = _make_tree(content, path, storage_bytes, budget)
    return TorchArchive("torchscript" if isinstance(content, Module) else "zip", tree)


def _load(pickle: io.BytesIO, path: Path, budget: Budget) -> object:
    """Read one pickle, and check that its containers can be walked."""
    content = pickles.load(pickle, str(path), budget)
    with name_file(path):
        check_extent(content, budget.items)
    return content


def _make_tree(
    content: object, path: Path, storage_bytes: Callable[[str], Tensor], budget: Budget
) -> object:
    """Plain data with tensors, that can be copied for what the file may cost."""
    tree = _Tensors(path, storage_bytes).replace(content)
    with name_file(path):
        budget.spend_values(count_values(tree))
    return tree


def _read_legacy(path: Path) -> TorchArchive:
    """Read five pickles (magic, protocol, system, content, storage keys), then the storages."""
    memory = map_file(path)
    budget = Budget.for_file(len(memory))
    position, parts = 0, []
    for _ in range(5):
        window = io.BytesIO(memory[position : limits.MAX_PICKLE])  # all five together
        parts.append(_load(window, path, budget))
        position += window.tell()
    _, _, system, content, keys = parts
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise UnsupportedLayoutError(f"{path} was written on a big-endian machine.")
    sizes = _item_sizes(content)
    places: dict[str, tuple[int, int]] = {}
    for key, place in _read_legacy_places(path, memory, position, keys, sizes):
        if key in places:
            raise UnsafeFileError(f"{path}: two storages have the key {key}.")
        places[key] = place

    def storage_bytes(key: str) -> Tensor:
        if key not in places:
            raise CorruptFileError(f"{path}: the storage {key} is missing.")
        return bytes_tensor(memory, *places[key])

    return TorchArchive("legacy", _make_tree(content, path, storage_bytes, budget))


def _read_legacy_places(
    path: Path, memory: mmap.mmap, position: int, keys: object, sizes: dict[str, int]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Key, start and bytes of each storage: an int64 count (little-endian), then the values."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptFileError(f"{path}: its storage keys are not a list of texts.")
    for key in keys:
        count = int.from_bytes(memory[position : position + 8], "little", signed=True)
        size = count * sizes.get(key, 0)
        position += 8
        if count < 0 or position + size > len(memory) or key not in sizes:
            raise CorruptFileError(
                f"{path} is truncated or damaged: the storage {key} should have {count} values "
                f"from byte {position}, but the file has {len(memory)} bytes."
            )
        yield key, (position, size)
        position += size


def _item_sizes(content: object) -> dict[str, int]:
    """Bytes per value of every storage that `content` uses, by key."""
    used = (leaf.storage if isinstance(leaf, TensorRecord) else leaf for leaf in walk(content))
    return {x.key: _dtype(x.dtype).itemsize for x in used if isinstance(x, Storage)}


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)  # `name` comes from the tables of pickle_names.py
    assert isinstance(dtype, torch.dtype)
    return dtype


class _Tensors:
    """Replaces the descriptions of tensors by checked tensors."""

    def __init__(self, path: Path, storage_bytes: Callable[[str], Tensor]) -> None:
        self.path = path
        self.storage_bytes = storage_bytes
        self.storages: dict[str, Tensor] = {}  # (bytes,) uint8 by key: shared storages stay shared
        self.made: dict[int, object] = {}  # by identity: what is shared in the file stays shared

    def replace(self, value: object) -> object:
        """Tensors for `TensorRecord`s, dicts for `Module`s; containers are copied once each."""
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            return Inert("builtins.int")  # Python refuses to write such numbers
        if isinstance(value, Storage):
            return Inert("torch.storage.UntypedStorage")
        if not isinstance(value, (TensorRecord, Module, dict, list, tuple)):
            return value
        if id(value) not in self.made:
            self.made[id(value)] = self._make(value)
        return self.made[id(value)]

    def _make(self, value: object) -> object:
        if isinstance(value, TensorRecord):
            return self.make_tensor(value)
        if isinstance(value, Module):
            return self.replace(value.attributes)
        if isinstance(value, dict):
            return {key: self.replace(inner) for key, inner in value.items()}
        assert isinstance(value, (list, tuple))
        return type(value)(self.replace(inner) for inner in value)

    def make_tensor(self, record: TensorRecord) -> Tensor:
        data, dtype = self.map_storage(record.storage), _dtype(record.dtype)
        values = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)  # (N,)
        size, stride = read_naturals(record.size), read_naturals(record.stride)
        offset = read_naturals((record.offset,))
        if size is None or stride is None or offset is None or len(size) != len(stride):
            raise CorruptFileError(
                f"{self.path}: a tensor's offset, size and strides must be whole numbers of 0 to "
                "2**63, as many strides as sizes."
            )
        count = math.prod(size)
        last = offset[0] + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= len(values):
            raise CorruptFileError(
                f"{self.path}: a tensor of size {size} and strides {stride} from {offset[0]} "
                f"reaches past the {len(values)} values of its storage {record.storage.key}."
            )
        if not is_countable(size):
            raise UnsafeFileError(
                f"{self.path}: a tensor repeats {len(values)} stored values to make {count}."
            )
        return values.as_strided(size, stride, offset[0] if count else 0)

    def map_storage(self, storage: Storage) -> Tensor:
        """Map a storage as (bytes,) uint8, and check its size against the description."""
        if storage.key not in self.storages:
            self.storages[storage.key] = self.storage_bytes(storage.key)
        data = self.storages[storage.key]
        numel = read_naturals((storage.numel,))
        size = numel[0] * _dtype(storage.dtype).itemsize if numel else -1
        if size != len(data):
            raise CorruptFileError(
                f"{self.path}: storage {storage.key} should have {size} bytes, but has {len(data)}."
            )
        return data
