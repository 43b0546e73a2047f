"""One file of a dataset cache: the tensors of many prompts, and a record of each.

A shard `cond-00000.safetensors` is never changed in place. Its tensors are called `KEY.tokens`,
`KEY.pooled` and `KEY.mask`. The tensor `records` holds lines of JSON: first the identity that all
keys share, then `[KEY, prompt, checksum]` of each prompt, and `[id, KEY]` of each caption's id. The
checksum of a prompt covers its key and its tensors, and that of the file covers the records. They
are SHA-256, which processors compute faster than other hashes of that strength.
"""

import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ecliptic.diffusion.cache.keys import (
    STORED,
    StoredConditioning,
    canonical_json,
    digest,
    key_maker,
)
from ecliptic.errors import ConfigError, CorruptFileError, StorageError
from ecliptic.storage import (
    drafts_of,
    read_safetensors,
    replace_file,
    write_safetensors,
)

VERSION = 2
LONGEST_RECORD = 2 << 20  # bytes of one line; JSON in ASCII writes up to 12 for a character
DEEPEST = 32  # containers within containers of the identity
LAST = 999_999_999  # number of a shard
_RECORDS = "records"
_START = "cond-"  # start of the names of shards
_NAME = re.compile(rf"{_START}(\d{{5}}|[1-9]\d{{5,8}})\.safetensors")
_BEYOND = re.compile(rf"{_START}[1-9]\d{{9,}}\.safetensors")
_KEY = re.compile(r"[0-9a-f]{64}")
_AXES = {  # (1, T, D); (1, E), or (1, 1, E) of Stable Cascade; (1, T)
    "tokens": (3,),
    "pooled": (2, 3),
    "mask": (2,),
}

Problem = Literal["missing", "checksum", "key", "shape"]


@dataclass(frozen=True)
class ShardEntry:
    """The record of one prompt."""

    prompt: str
    sha256: str  # of its key and tensors


@dataclass(frozen=True, eq=False)
class Shard:
    """The content of one file; `tensors` may be mapped from it."""

    identity: Mapping[str, Any]
    entries: Mapping[str, ShardEntry] = field(default_factory=dict)  # by key
    ids: Mapping[str, str] = field(default_factory=dict)  # id -> key, of this or another shard
    tensors: Mapping[str, Tensor] = field(default_factory=dict)  # by KEY.part

    @cached_property
    def key_of(self) -> Callable[[str], str]:
        """The key of a prompt under the identity of the shard."""
        return key_maker(self.identity)

    def parts(self, key: str) -> dict[str, Tensor]:
        """The tensors of one prompt by part."""
        named = {part: self.tensors.get(f"{key}.{part}") for part in STORED}
        return {part: tensor for part, tensor in named.items() if tensor is not None}

    def find_problem(self, key: str) -> tuple[Problem, str] | None:
        """The reason why the tensors of `key` may be others than those that were stored."""
        entry, parts = self.entries.get(key), self.parts(key)
        if entry is None or not parts:
            return "missing", "it has no tensors"
        if digest(dict(name_tensors(key, parts))) != entry.sha256:
            return "checksum", "its tensors do not match their checksum"
        if self.key_of(entry.prompt) != key:
            return "key", "its key belongs to another prompt or other settings"
        shape = _find_wrong_shape(parts)
        return None if shape is None else ("shape", shape)

    def conditioning(self, key: str) -> StoredConditioning:
        """Copies of the tensors of `key`, independent of the file."""
        return StoredConditioning(**{part: t.clone() for part, t in self.parts(key).items()})


def make_entry(key: str, prompt: str, parts: Mapping[str, Tensor]) -> ShardEntry:
    """The record of a prompt and its tensors."""
    return ShardEntry(prompt, digest(dict(name_tensors(key, parts))))


def name_tensors(key: str, parts: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Name the tensors of one prompt as in a shard."""
    return ((f"{key}.{part}", tensor) for part, tensor in parts.items())


def shard_path(folder: Path, number: int) -> Path:
    """The path of shard `number`."""
    return folder / f"{_START}{number:05d}.safetensors"


def shard_paths(folder: Path) -> dict[int, Path]:
    """The shards of a folder by number, in order."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(name[1]), path) for name, path in found if name))


def drafts(folder: Path) -> list[Path]:
    """Unfinished files of killed runs; call this only while you hold the folder's lock."""
    return drafts_of(folder, _START)


def publish(folder: Path, shard: Shard, number: int) -> int:
    """Write `shard`, all or nothing, under the first free number from `number` on.

    Returns:
        The number.

    Raises:
        StorageError: it cannot be written, or there is no free number.
    """
    for free in range(number, LAST + 1):
        with suppress(FileExistsError):
            replace_file(shard_path(folder, free), partial(_write, shard), exclusive=True)
            return free
    raise StorageError(
        f"{folder} takes no more shards, because {shard_path(folder, LAST).name} has the last "
        "number; give that file a lower number, or remove it."
    )


def misnumbered(folder: Path) -> list[Path]:
    """Files called like shards with a number after the last one, so that they are not read."""
    return sorted(path for path in folder.iterdir() if _BEYOND.fullmatch(path.name))


def replace(path: Path, shard: Shard) -> None:
    """Replace the file `path` with `shard`, all or nothing."""
    replace_file(path, partial(_write, shard))


def read_shard(path: Path) -> Shard:
    """Read a shard; its records are checked, its tensors are mapped and not yet checked.

    Raises:
        CorruptFileError: truncated, damaged, of an older version, or not a shard of a cache.
        StorageError: a later version wrote the file.
        OSError: it does not exist or cannot be opened.
    """
    found = read_safetensors(path)
    records, version = found.tensors.pop(_RECORDS, None), found.metadata.get("version", "")
    if records is None and '"version":1' in found.metadata.get("about", ""):
        raise CorruptFileError(
            f"{path} was written by an older version of ecliptic; remove it with `ecliptic "
            "captions repair`, and write the captions again."
        )
    try:
        if records is None or records.dtype != torch.uint8:
            raise ValueError("it has no records")
        data = records.numpy().tobytes()
        if found.metadata.get("sha256") != _checksum(version, data):
            raise ValueError("its records do not match their checksum")
        if version != f"{VERSION}":
            raise StorageError(
                f"{path} has version {version[:20]!r}, but this ecliptic reads {VERSION}; "
                "update ecliptic."
            )
        identity, entries, ids = _read_records(data)
    except (ValueError, RecursionError) as error:
        raise CorruptFileError(
            f"{path} is not an intact shard of conditionings: {error}; remove it with `ecliptic "
            "captions repair`, and write the captions again."
        ) from None
    return Shard(identity, entries, ids, found.tensors)


def write_records(shard: Shard) -> bytes:
    """The identity, prompts and ids of a shard as lines of JSON.

    Raises:
        ConfigError: a line is longer, or the identity is nested deeper, than readers accept.
    """
    if _is_deep(json.loads(canonical_json(shard.identity)), DEEPEST):
        raise ConfigError(
            f"the settings are nested more than {DEEPEST} deep, more than a cache stores; use "
            "flatter ones."
        )
    entries = ([key, entry.prompt, entry.sha256] for key, entry in shard.entries.items())
    values = itertools.chain([shard.identity], entries, map(list, shard.ids.items()))
    lines = [canonical_json(value) for value in values]
    if (longest := max(map(len, lines))) > LONGEST_RECORD:
        raise ConfigError(
            f"the settings, a prompt or an id take {longest} bytes, but a cache stores at most "
            f"{LONGEST_RECORD}; use shorter ones."
        )
    return b"\n".join(lines)


def _write(shard: Shard, path: Path) -> None:
    data, version = write_records(shard), f"{VERSION}"
    tensors = {**shard.tensors, _RECORDS: torch.frombuffer(bytearray(data), dtype=torch.uint8)}
    write_safetensors(path, tensors, {"version": version, "sha256": _checksum(version, data)})


def _checksum(version: str, records: bytes) -> str:
    """The same in all versions, so that damage is told from a later version."""
    return hashlib.sha256(version.encode() + b"\0" + records).hexdigest()


def _read_records(data: bytes) -> tuple[dict[str, Any], dict[str, ShardEntry], dict[str, str]]:
    """Read line by line: JSON of a few megabytes could otherwise take a hundred times as much."""
    lines = io.BytesIO(data)
    identity = _parse_line(lines)
    check_identity(identity)
    entries, ids = {}, {}
    while lines.tell() < len(data):
        row = _parse_line(lines)
        texts = row if isinstance(row, list) and all(isinstance(x, str) for x in row) else []
        if len(texts) == 3 and _KEY.fullmatch(texts[0]):
            entries[texts[0]] = ShardEntry(*texts[1:])
        elif len(texts) == 2 and _KEY.fullmatch(texts[1]):
            ids[texts[0]] = texts[1]
        else:
            raise ValueError("a record is neither a prompt nor an id")
    return identity, entries, ids


def _parse_line(lines: io.BytesIO) -> Any:
    line = lines.readline(LONGEST_RECORD + 1)
    if len(line) > LONGEST_RECORD:
        raise ValueError(f"a record has more than {LONGEST_RECORD} bytes")
    return json.loads(line.decode())


def check_identity(identity: Any) -> None:
    """Raise ValueError unless this is the identity of a conditioner."""
    if not isinstance(identity, dict) or not isinstance(identity.get("conditioner"), dict):
        raise ValueError("its first record is not the identity of a conditioner")
    if _is_deep(identity, DEEPEST):
        raise ValueError(f"its identity is nested more than {DEEPEST} deep")
    canonical_json(identity)  # raises for NaN and infinity, of which no key can be made


def _is_deep(value: Any, most: int) -> bool:
    """Whether lists and objects are nested more than `most` deep."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(_is_deep(each, most - 1) for each in inner)


def _find_wrong_shape(parts: Mapping[str, Tensor]) -> str | None:
    for part, tensor in parts.items():
        if tensor.ndim not in _AXES[part] or tensor.shape[0] != 1 or not tensor.numel():
            return f"{part} has the shape {tuple(tensor.shape)}"
        if tensor.is_floating_point() == (part == "mask") or (
            tensor.itemsize == 1 and part != "mask"
        ):
            return f"{part} is {tensor.dtype}"
    if "mask" in parts and "tokens" in parts:
        length, seen = parts["tokens"].shape[1], parts["mask"].shape[1]
        if length != seen:
            return f"its mask has {seen} tokens, but there are {length}"
    return None
