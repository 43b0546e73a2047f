"""Reads `.pt`, `.pth`, `.bin` and `.ckpt` files without running code in them.

torch.save archives, TorchScript archives (OpenAI's released models) and the files of PyTorch before
1.6 all describe tensors with a pickle. `pickles.py` turns the pickle into plain data; this module
checks each description against the bytes of the file, then maps the tensor without copying it.
"""

import io
import mmap
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError, UnsafeFileError, UnsupportedLayoutError
from ecliptic.storage import pickles
from ecliptic.storage.mapping import bytes_tensor, map_file, read_naturals
from ecliptic.storage.pickle_names import MAX_NAME, Inert, Module, Storage, TensorRecord
from ecliptic.storage.sniffing import refuse_kind, sniff
from ecliptic.storage.zip_archive import Archive

Scalar = bool | int | float | str
MAX_DEPTH = 64  # containers within containers
MAX_ITEMS = 2_000_000  # values in all containers; shared containers count each time
MAX_REPEATED = 1 << 20  # values of an expanded view (stride 0) beyond those stored


@dataclass(frozen=True)
class TorchArchive:
    """The content of a PyTorch file.

    `tree` has only dict, list, tuple, str, bytes, numbers, None, tensors (mapped, without
    gradient), and `Inert` for objects without a plain form. For a TorchScript archive it has the
    attributes of the modules, as nested dicts.
    """

    kind: Literal["zip", "torchscript", "legacy"]
    tree: object

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its dotted name; for a TorchScript archive, its state dict.

        Raises:
            CorruptFileError: two tensors have the same dotted name.
        """
        found: dict[str, Tensor] = {}
        for name, leaf in _leaves(self.tree):
            if isinstance(leaf, Tensor) and found.setdefault(name, leaf) is not leaf:
                raise CorruptFileError(f"two tensors of the file have the name {name!r}.")
        return found

    @cached_property
    def metadata(self) -> dict[str, Scalar]:
        """Every number and string by its dotted name, such as `input_resolution`."""
        scalars = (bool, int, float, str)
        return {name: leaf for name, leaf in _leaves(self.tree) if isinstance(leaf, scalars)}


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
    pickle = io.BytesIO(archive.read(f"{root}data.pkl", pickles.MAX_PICKLE))
    content = pickles.load(pickle, str(path))
    _check_extent(path, content)

    def storage_bytes(key: str) -> Tensor:
        entry = archive.entries.get(f"{root}data/{key}")
        if entry is None or entry.deflated:
            state = "missing" if entry is None else "compressed, which PyTorch never does"
            raise CorruptFileError(f"{path}: the storage data/{key} is {state}.")
        return bytes_tensor(archive.memory, entry.start, entry.size)

    tree = _Tensors(path, storage_bytes).replace(content)
    return TorchArchive("torchscript" if isinstance(content, Module) else "zip", tree)


def _read_legacy(path: Path) -> TorchArchive:
    """Read five pickles (magic, protocol, system, content, storage keys), then the storages."""
    memory = map_file(path)
    position, parts = 0, []
    for _ in range(5):
        window = io.BytesIO(memory[position : position + pickles.MAX_PICKLE])
        parts.append(pickles.load(window, str(path)))
        position += window.tell()
    _, _, system, content, keys = parts
    _check_extent(path, content)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise UnsupportedLayoutError(f"{path} was written on a big-endian machine.")
    places = dict(_read_legacy_places(path, memory, position, keys, _item_sizes(content)))

    def storage_bytes(key: str) -> Tensor:
        if key not in places:
            raise CorruptFileError(f"{path}: the storage {key} is missing.")
        return bytes_tensor(memory, *places[key])

    return TorchArchive("legacy", _Tensors(path, storage_bytes).replace(content))


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
    leaves = (leaf for _, leaf in _leaves(content))
    used = (leaf.storage if isinstance(leaf, TensorRecord) else leaf for leaf in leaves)
    return {x.key: _dtype(x.dtype).itemsize for x in used if isinstance(x, Storage)}


def _check_extent(path: Path, content: object) -> None:
    """Refuse deep nesting, containers in themselves and small pickles that unfold to huge trees."""
    level, items = [content], 0
    for _ in range(MAX_DEPTH):
        inner = [_children(value) for value in level]
        items += sum(map(len, inner))
        if items > MAX_ITEMS:
            break
        level = [value for values in inner for value in values]
        if not level:
            return
    raise UnsafeFileError(
        f"{path}: its containers are nested more than {MAX_DEPTH} deep, contain themselves, or "
        f"hold more than {MAX_ITEMS} values."
    )


def _children(value: object) -> Collection[object]:
    if isinstance(value, Module):
        value = value.attributes
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The dotted name and value of everything in nested containers that is not a container."""
    if isinstance(tree, Module):
        tree = tree.attributes
    if isinstance(tree, (dict, list, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            name = f"{prefix}.{key}" if prefix else str(key)
            if len(name) > MAX_NAME:  # else one long key would be copied for every leaf below
                raise UnsafeFileError(f"a name in the file has more than {MAX_NAME} characters.")
            yield from _leaves(value, name)
    else:
        yield prefix, tree


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

    def replace(self, tree: object) -> object:
        """Copy `tree` with tensors for `TensorRecord`s and dicts for `Module`s."""
        if isinstance(tree, TensorRecord):
            return self.make_tensor(tree)
        if isinstance(tree, Storage):
            return Inert("torch.storage.UntypedStorage")
        if isinstance(tree, Module):
            tree = tree.attributes
        if isinstance(tree, dict):
            return {key: self.replace(value) for key, value in tree.items()}
        if isinstance(tree, (list, tuple)):
            return type(tree)(self.replace(value) for value in tree)
        return tree

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
        count, last = 1, offset[0]
        for length, step in zip(size, stride, strict=True):
            count *= length
            last += (length - 1) * step
        if count and last >= len(values):
            raise CorruptFileError(
                f"{self.path}: a tensor of size {size} and strides {stride} from {offset[0]} "
                f"reaches past the {len(values)} values of its storage {record.storage.key}."
            )
        if count > len(values) + MAX_REPEATED:
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
