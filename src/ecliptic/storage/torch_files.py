"""Reads `.pt`, `.pth`, `.bin` and `.ckpt` files without running anything in them.

torch.save archives, TorchScript archives (as OpenAI released its models) and the files of
PyTorch before 1.6 all describe tensors by a pickle. `pickles.py` turns that into plain data;
here each description is checked against the bytes that are there, then mapped, not copied.
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
from ecliptic.storage.mapping import MAX_DIMENSIONS, bytes_tensor, map_file
from ecliptic.storage.pickle_names import MAX_NAME, Inert, Module, Storage, TensorRecord
from ecliptic.storage.sniffing import refuse_kind, sniff
from ecliptic.storage.zip_archive import Archive

Scalar = bool | int | float | str
MAX_DEPTH = 64  # containers within containers
MAX_ITEMS = 2_000_000  # values in all containers; shared containers count each time
MAX_REPEATED = 1 << 20  # values of an expanded view (stride 0) beyond those stored


@dataclass(frozen=True)
class TorchArchive:
    """What a file of PyTorch holds.

    `tree` has only dict, list, tuple, str, bytes, numbers, None, tensors (mapped, without
    gradient), and `Inert` for what was named but has no plain form. Of a TorchScript archive it
    is the attributes of the modules, as nested dicts.
    """

    kind: Literal["zip", "torchscript", "legacy"]
    tree: object

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under its dotted name; of a TorchScript archive, its state dict.

        Raises:
            CorruptFileError: two tensors have the same dotted name.
        """
        found: dict[str, Tensor] = {}
        for name, leaf in _leaves(self.tree):
            if isinstance(leaf, Tensor) and found.setdefault(name, leaf) is not leaf:
                raise CorruptFileError(f"two tensors of the file are both called {name!r}.")
        return found

    @cached_property
    def metadata(self) -> dict[str, Scalar]:
        """Every number and string under its dotted name, such as `input_resolution`."""
        scalars = (bool, int, float, str)
        return {name: leaf for name, leaf in _leaves(self.tree) if isinstance(leaf, scalars)}


def read_torch(path: Path | str) -> TorchArchive:
    """The content of a file that torch.save or torch.jit.save wrote; no code of it is run.

    Tensors are mapped from the file, so reading costs little until they are used.

    Raises:
        UnsafeFileError: it wants more than tensors in containers, or its parts overlap.
        CorruptFileError: truncated, not such a file, or a tensor reaches outside its storage.
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
            state = "missing" if entry is None else "compressed, as PyTorch never writes it"
            raise CorruptFileError(f"{path}: the storage data/{key} is {state}.")
        return bytes_tensor(archive.memory, entry.start, entry.size)

    tree = _Tensors(path, storage_bytes).within(content)
    return TorchArchive("torchscript" if isinstance(content, Module) else "zip", tree)


def _read_legacy(path: Path) -> TorchArchive:
    """Five pickles (magic, protocol, system, content, storage keys), then the storages."""
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
    places = dict(_legacy_places(path, memory, position, keys, _item_sizes(content)))

    def storage_bytes(key: str) -> Tensor:
        if key not in places:
            raise CorruptFileError(f"{path}: the storage {key} is missing.")
        return bytes_tensor(memory, *places[key])

    return TorchArchive("legacy", _Tensors(path, storage_bytes).within(content))


def _legacy_places(
    path: Path, memory: mmap.mmap, position: int, keys: object, sizes: dict[str, int]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Start and bytes of each storage: a little-endian int64 count of values, then the values."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CorruptFileError(f"{path}: the list of storages is not a list of names.")
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
    """No deep nesting, no container within itself, no small pickle that unfolds to a huge tree."""
    level, items = [content], 0
    for _ in range(MAX_DEPTH):
        inner = [_inside(value) for value in level]
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


def _inside(value: object) -> Collection[object]:
    if isinstance(value, Module):
        value = value.attributes
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def _leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Everything in nested dicts and sequences that is no container, with its dotted name."""
    if isinstance(tree, Module):
        tree = tree.attributes
    if isinstance(tree, (dict, list, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            name = f"{prefix}.{key}" if prefix else str(key)
            if len(name) > MAX_NAME:  # else one long key would be copied for every leaf below
                raise UnsafeFileError(f"a name of the file has more than {MAX_NAME} characters.")
            yield from _leaves(value, name)
    else:
        yield prefix, tree


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)  # `name` comes from the tables of pickle_names.py
    assert isinstance(dtype, torch.dtype)
    return dtype


class _Tensors:
    """Puts checked tensors in the place of their descriptions."""

    def __init__(self, path: Path, storage_bytes: Callable[[str], Tensor]) -> None:
        self.path = path
        self.storage_bytes = storage_bytes
        self.storages: dict[str, Tensor] = {}  # (bytes,) uint8 by key: shared storages stay shared

    def within(self, tree: object) -> object:
        """`tree` with tensors for `TensorRecord`s and dicts for `Module`s."""
        if isinstance(tree, TensorRecord):
            return self.tensor(tree)
        if isinstance(tree, Storage):
            return Inert("torch.storage.UntypedStorage")
        if isinstance(tree, Module):
            tree = tree.attributes
        if isinstance(tree, dict):
            return {key: self.within(value) for key, value in tree.items()}
        if isinstance(tree, (list, tuple)):
            return type(tree)(self.within(value) for value in tree)
        return tree

    def tensor(self, record: TensorRecord) -> Tensor:
        data, dtype = self.storage(record.storage), _dtype(record.dtype)
        values = data[: len(data) // dtype.itemsize * dtype.itemsize].view(dtype)  # (N,)
        size, stride = _naturals(record.size), _naturals(record.stride)
        offset = _naturals((record.offset,))
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
                f"{self.path}: a tensor repeats {len(values)} stored values to {count}."
            )
        return values.as_strided(size, stride, offset[0] if count else 0)

    def storage(self, storage: Storage) -> Tensor:
        """(bytes,) uint8, as many as the description and the file agree on."""
        if storage.key not in self.storages:
            self.storages[storage.key] = self.storage_bytes(storage.key)
        data = self.storages[storage.key]
        wanted = _naturals((storage.numel,))
        size = wanted[0] * _dtype(storage.dtype).itemsize if wanted else -1
        if size != len(data):
            raise CorruptFileError(
                f"{self.path}: storage {storage.key} should have {size} bytes, has {len(data)}."
            )
        return data


def _naturals(values: object) -> tuple[int, ...] | None:
    """`values` if they are a short tuple or list of whole numbers in [0, 2**63)."""
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        return None
    if any(type(value) is not int or not 0 <= value < 1 << 63 for value in values):
        return None
    return tuple(values)
