"""One file of a dataset cache: the tensors of many prompts, and their metadata.

A shard `cond-00000.safetensors` is never changed in place. Its tensors are called `KEY.tokens`,
`KEY.pooled` and `KEY.mask`. Its metadata hold, as JSON, the identity that all its keys share, the
prompt of each key with a checksum of the tensors, and the ids of the captions.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.diffusion.cache.keys import STORED, StoredConditioning, canonical_json, digest
from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.storage import drafts_of, read_safetensors, replace_file, write_safetensors

VERSION = 1
_START = "cond-"  # start of the names of shards
_NAME = re.compile(rf"{_START}(\d{{5,9}})\.safetensors")


@dataclass(frozen=True)
class ShardEntry:
    """The metadata of one prompt."""

    prompt: str
    sha256: str  # of its tensors


@dataclass(frozen=True, eq=False)
class Shard:
    """The content of one file; `tensors` may be mapped from it."""

    identity: Mapping[str, Any]
    entries: Mapping[str, ShardEntry] = field(default_factory=dict)  # by key
    ids: Mapping[str, str] = field(default_factory=dict)  # id -> key, of this or another shard
    tensors: Mapping[str, Tensor] = field(default_factory=dict)  # by KEY.part

    def parts(self, key: str) -> dict[str, Tensor]:
        """The tensors of one prompt by part."""
        named = {part: self.tensors.get(f"{key}.{part}") for part in STORED}
        return {part: tensor for part, tensor in named.items() if tensor is not None}

    def intact(self, key: str) -> bool:
        """Whether the tensors of `key` match their checksum."""
        return digest(self.parts(key)) == self.entries[key].sha256

    def conditioning(self, key: str) -> StoredConditioning:
        """Copies of the tensors of `key`, independent of the file."""
        return StoredConditioning(**{part: t.clone() for part, t in self.parts(key).items()})


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


def publish(folder: Path, shard: Shard, number: int) -> Path:
    """Write `shard`, all or nothing, under the first free number from `number` on.

    Raises:
        StorageError: it cannot be written.
    """
    for free in itertools.count(number):
        path = shard_path(folder, free)
        with suppress(FileExistsError):
            replace_file(path, partial(_write, shard), exclusive=True)
            return path
    raise AssertionError("numbers do not end")


def replace(path: Path, shard: Shard) -> None:
    """Replace the file `path` with `shard`, all or nothing."""
    replace_file(path, partial(_write, shard))


def read_shard(path: Path) -> Shard:
    """Read a shard; its tensors are mapped and not yet checked.

    Raises:
        CorruptFileError: truncated, damaged in its header, or not a shard of a cache.
        StorageError: a later version wrote the file.
    """
    found = read_safetensors(path)
    texts = {name: found.metadata.get(name, "") for name in ("about", "entries", "ids")}
    if found.metadata.get("sha256") != _checksum(texts):
        raise CorruptFileError(
            f"{path} is not an intact shard of conditionings: its metadata do not match their "
            "checksum; remove it with `ecliptic captions repair`, and run again."
        )
    about, entries, ids = (json.loads(text) for text in texts.values())
    if about["version"] > VERSION:
        raise StorageError(
            f"{path} has version {about['version']}, newer than {VERSION}; update ecliptic."
        )
    made = {key: ShardEntry(*row) for key, row in entries.items()}
    return Shard(about["identity"], made, ids, found.tensors)


def _write(shard: Shard, path: Path) -> None:
    about = {"version": VERSION, "identity": shard.identity}
    rows = {key: [entry.prompt, entry.sha256] for key, entry in shard.entries.items()}
    values = {"about": about, "entries": rows, "ids": dict(shard.ids)}
    texts = {name: canonical_json(value).decode() for name, value in values.items()}
    write_safetensors(path, shard.tensors, {**texts, "sha256": _checksum(texts)})


def _checksum(texts: Mapping[str, str]) -> str:
    return hashlib.sha256("\0".join(texts.values()).encode()).hexdigest()


def name_tensors(key: str, parts: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Name the tensors of one prompt as in a shard."""
    return ((f"{key}.{part}", tensor) for part, tensor in parts.items())
