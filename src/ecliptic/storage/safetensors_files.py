"""Reads and writes safetensors files, whole or in shards, and checks every byte range.

The format allows no gaps, no overlaps and nothing after the last tensor. A file that breaks this
rule is refused, because another reader might see other tensors in it.

Source: the format section of the safetensors README; the audit by Trail of Bits (2023).
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeGuard

import safetensors.torch
import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError, TruncatedFileError
from ecliptic.storage.budget import MAX_NAME, Budget, name_file
from ecliptic.storage.mapping import (
    MAX_DIMENSIONS,
    bytes_tensor,
    is_countable,
    read_naturals,
)
from ecliptic.storage.opening import map_file, read_regular
from ecliptic.storage.pickled.torch_files import TorchArchive, read_torch
from ecliptic.storage.sniffing import refuse_kind, sniff
from ecliptic.storage.text_files import LONGEST_NAME, parse_json

# Bytes of a header, or of an index of shards. The reference reader takes 100 MB; with some 100
# bytes for each tensor, this is enough for 250,000 of them, far more than any release has.
MAX_HEADER = 25_000_000
LONGEST_FILE_NAME = 255  # bytes, the limit of most file systems
DTYPES = {
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "I8": torch.int8,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "U8": torch.uint8,
}


class TensorFile(NamedTuple):
    """Tensors by name, mapped from their file, and the text stored beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


@dataclass(frozen=True)
class _Place:
    """One tensor of the header: `[start, end)` counts from the end of the header."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def read_safetensors(path: Path | str) -> TensorFile:
    """Read the tensors of a `.safetensors` file, memory-mapped, and its metadata.

    Raises:
        CorruptFileError: another kind of file, truncated, or with a wrong header.
    """
    path = Path(path)
    kind = sniff(path)
    if kind not in ("safetensors", "unknown"):
        refuse_kind(path, kind, "a safetensors file")
    memory = map_file(path)
    size = int.from_bytes(memory[:8], "little")
    start = 8 + size
    if len(memory) < 10 or size > MAX_HEADER or memory[8:9] != b"{":
        raise CorruptFileError(
            f"{path} is not a safetensors file: its first 8 bytes announce a header of {size} "
            f"bytes (at most {MAX_HEADER}), but the file has {len(memory)}."
        )
    if start > len(memory):
        raise TruncatedFileError(_explain_truncation(path, start, len(memory)))
    header = parse_json(memory[8:start], f"{path}: its header", unique=True)
    metadata = _check_metadata(path, header.pop("__metadata__", {}))
    places = [_read_place(path, name, entry) for name, entry in header.items()]
    _check_cover(path, places, start, len(memory))
    tensors = {}
    for place in places:
        size, item = place.end - place.start, place.dtype.itemsize
        data = bytes_tensor(memory, start + place.start, size, item)
        tensors[place.name] = data.view(place.dtype).reshape(place.shape)
    return TensorFile(tensors, metadata)


def read_tensors(path: Path) -> TensorFile | TorchArchive:
    """Read the tensors of a safetensors or PyTorch file, whatever its name.

    Raises:
        UnsafeFileError: a pickle that asks for more than tensors.
        CorruptFileError: another kind of file, or damaged.
    """
    kind = sniff(path)
    if kind in ("zip", "legacy"):
        return read_torch(path)
    if kind != "safetensors":
        refuse_kind(path, kind, "a safetensors or PyTorch file")
    return read_safetensors(path)


def read_shards(index: Path | str) -> TensorFile:
    """Read all tensors of a sharded checkpoint from its `*.index.json`.

    Shards are safetensors or PyTorch files, whatever their names, in the folder of the index.

    Raises:
        CorruptFileError: a shard is missing, in another folder, or does not match the index.
        UnsafeFileError: a PyTorch shard asks for more than tensors.
    """
    index = Path(index)
    tensors: dict[str, Tensor] = {}
    size = 0  # bytes of all shards
    for shard, names in _read_index(index).items():
        path = index.parent / shard
        found = read_tensors(path).tensors
        size += path.stat().st_size
        if wrong := sorted(names ^ found.keys()):
            raise CorruptFileError(
                f"{path} and {index.name} differ in {len(wrong)} tensors, such as "
                f"{', '.join(wrong[:5])}; they belong to different checkpoints."
            )
        tensors.update(found)
    with name_file(index):
        Budget.for_file(size).spend_values(sum(x.numel() for x in tensors.values()))
    return TensorFile(tensors, {})


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a `.safetensors` file; tensors must be contiguous and not share memory.

    Hugging Face's readers need `{"format": "pt"}` in the metadata.

    Raises:
        OSError, safetensors.SafetensorError: cannot be written; `replace_file` explains it.
    """
    safetensors.torch.save_file(dict(tensors), path, dict(metadata))


def _read_index(index: Path) -> dict[str, set[str]]:
    """Read the tensor names of each shard, and check that all shards are beside the index."""
    data = read_regular(index, MAX_HEADER, CorruptFileError)
    content = parse_json(data, f"{index}: its text", unique=True)
    mapping = content.get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        raise CorruptFileError(f"{index} has no weight_map of tensor names to files.")
    shards: dict[str, set[str]] = {}
    for name, shard in mapping.items():
        if not _is_file_name(shard):
            raise CorruptFileError(
                f"{index}: {name[:LONGEST_NAME]} is in {_describe(shard)}, not a file "
                "beside the index."
            )
        shards.setdefault(shard, set()).add(name)
    if missing := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise CorruptFileError(
            f"{len(missing)} of {len(shards)} shards are missing beside {index}: "
            f"{', '.join(missing[:5])}; download them into the same folder."
        )
    return shards


def _is_file_name(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or value in ("", ".", "..") or {*value} & {*"/\\\0:"}:
        return False
    try:
        return len(os.fsencode(value)) <= LONGEST_FILE_NAME
    except UnicodeEncodeError:  # half a surrogate pair, which JSON may hold
        return False


def _check_metadata(path: Path, metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise CorruptFileError(f"{path}: __metadata__ must map text to text.")
    return metadata


def _read_place(path: Path, name: str, entry: object) -> _Place:
    """Read an entry of the header, and check its byte count against dtype and shape."""
    if len(name) > MAX_NAME:
        raise CorruptFileError(f"{path}: a tensor's name has more than {MAX_NAME} characters.")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CorruptFileError(f"{path}: {name} needs exactly dtype, shape and data_offsets.")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise CorruptFileError(
            f"{path}: {name} has the unknown dtype {_describe(entry['dtype'])}; known are "
            f"{', '.join(DTYPES)}."
        )
    shape, offsets = read_naturals(entry["shape"]), read_naturals(entry["data_offsets"])
    if shape is None or offsets is None:
        raise CorruptFileError(
            f"{path}: the shape and data_offsets of {name} must be at most {MAX_DIMENSIONS} whole "
            "numbers of 0 to 2**63."
        )
    dtype = DTYPES[entry["dtype"]]
    size = math.prod(shape) * dtype.itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != size or not is_countable(shape):
        raise CorruptFileError(
            f"{path}: {name} of shape {shape[:8]} and {entry['dtype']} needs {size} bytes, but its "
            f"data_offsets are {offsets[:2]}."
        )
    return _Place(name, dtype, shape, *offsets)


def _describe(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _check_cover(path: Path, places: list[_Place], start: int, size: int) -> None:
    """Refuse tensors that do not fill the file from `start` to its end, without gap or overlap."""
    position = 0
    for place in sorted(places, key=lambda place: (place.start, place.end)):
        if place.start != position:
            what = "overlaps the one before" if place.start < position else "leaves a gap before"
            raise CorruptFileError(
                f"{path}: {place.name} {what}: it starts at {place.start}, not {position}."
            )
        position = place.end
    if start + position > size:
        raise TruncatedFileError(_explain_truncation(path, start + position, size))
    if start + position < size:
        raise CorruptFileError(
            f"{path}: {size - start - position} bytes follow the last tensor, which the format "
            "forbids; the file is damaged or contains something else too."
        )


def _explain_truncation(path: Path, needed: int, size: int) -> str:
    return (
        f"{path} is truncated: its header needs {needed} bytes, but the file has {size}; "
        "download or copy it again."
    )
