"""Finds bad entries of a dataset cache, and removes them, so that the next run computes them again.

One shard is in memory at a time. A finding names the shard and, if it is about one prompt, the key.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Unpack

from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.diffusion.cache.index import CacheIndex
from ecliptic.diffusion.cache.keys import STORED, TextConditioner, canonical_json
from ecliptic.diffusion.cache.shards import (
    LAST,
    Problem,
    Shard,
    misnumbered,
    read_shard,
    replace,
    shard_path,
    shard_paths,
)
from ecliptic.diffusion.options import HowOptions
from ecliptic.errors import CorruptFileError, StorageError

FindingKind = Literal["torn", "newer", "not finite", "stale", "index", "number"] | Problem


@dataclass(frozen=True)
class CacheFinding:
    """One problem in a cache."""

    kind: FindingKind
    shard: str  # file name
    key: str  # "" if the problem is in the whole shard
    detail: str

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Findings:
    """All problems in a folder, and the number of shards and entries that were checked."""

    items: tuple[CacheFinding, ...]
    shards: int
    entries: int
    repaired: bool = False

    def __iter__(self) -> Iterator[CacheFinding]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.items


def verify_cache(
    folder: Path | str,
    conditioner: TextConditioner | None = None,
    *,
    repair: bool = False,
    advance: Callable[[int], object] = lambda _: None,
    **options: Unpack[HowOptions],
) -> Findings:
    """Check every byte of the cache in `folder`.

    Args:
        folder: of `write_cache`.
        conditioner: if given, entries of another conditioner or of other options are stale.
        repair: remove bad entries; the next `write_cache` computes them again.
        advance: is called with the number of newly finished shards.
        **options: of the conditioner.

    Raises:
        StorageError: there is no such folder, or it cannot be changed.
    """
    folder = Path(folder)
    wanted = None if conditioner is None else canonical_json(conditioner.identity(**options))
    index = CacheIndex(folder)
    found: list[CacheFinding] = []
    shards = entries = 0
    for number, path in shard_paths(folder).items():
        here, count = _check_shard(path, number, wanted, index, repair=repair)
        found += here
        shards, entries = shards + 1, entries + count
        advance(1)
    found += _check_numbers(folder)
    if repair:
        index.clean()
        index.rebuild()
    why = "it was damaged or of another version, and has been rebuilt from the shards"
    found += [CacheFinding("index", path.name, "", why) for path in index.replaced]
    index.close()
    return Findings(tuple(found), shards, entries, repair)


def _check_shard(
    path: Path, number: int, wanted: bytes | None, index: CacheIndex, *, repair: bool
) -> tuple[list[CacheFinding], int]:
    """Check one shard; returns its findings and the number of its prompts."""
    try:
        shard = read_shard(path)
    except StorageError as error:  # only a later version can tell whether it is good
        return [CacheFinding("newer", path.name, "", f"{error} It is left as it is.")], 0
    except (CorruptFileError, OSError) as error:
        if not os.path.lexists(path):  # another process removed it in a repair
            return [], 0
        lost = len(index.keys_in(number))
        why = f"{error} The index knows {lost} prompts in it." if lost else str(error)
        return [CacheFinding("torn", path.name, "", why + _remove(path, repair=repair))], 0
    if wanted is not None and canonical_json(shard.identity["conditioner"]) != wanted:
        why = f"{len(shard.entries)} prompts of {_describe_differences(shard, wanted)}"
        why += _remove(path, repair=repair)
        return [CacheFinding("stale", path.name, "", why)], len(shard.entries)
    found = list(_check_entries(path, shard))
    indexed = list(_check_index(path, number, shard, index))
    if repair and found:
        _drop(path, shard, {finding.key for finding in found})
    return found + indexed, len(shard.entries)


def _check_numbers(folder: Path) -> Iterator[CacheFinding]:
    """Yield shards whose number is not read, or leaves none for the next; a repair keeps them."""
    for path in misnumbered(folder):
        why = "its number is not one of a shard, so it is not read; rename or remove it yourself"
        yield CacheFinding("number", path.name, "", why)
    if os.path.lexists(last := shard_path(folder, LAST)):
        why = "it has the last number, so nothing can be written; rename or remove it yourself"
        yield CacheFinding("number", last.name, "", why)


def _remove(path: Path, *, repair: bool) -> str:
    """Remove a bad shard in a repair; returns what to add to its finding."""
    try:
        if repair:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f" It cannot be removed: {error.strerror}; remove it yourself."
    return ""


def _check_entries(path: Path, shard: Shard) -> Iterator[CacheFinding]:
    """Yield one finding for each bad prompt."""
    widths: dict[str, int] = {}  # of the shard's first entry: one identity, one width
    for key, entry in shard.entries.items():
        if problem := shard.find_problem(key) or _find_bad_values(shard.parts(key), widths):
            kind, why = problem
            yield CacheFinding(kind, path.name, key, f"{why} ({entry.prompt[:60]!r})")
    strays = {name.rpartition(".")[0] for name in shard.tensors} - shard.entries.keys()
    for key in sorted(strays):
        yield CacheFinding("missing", path.name, key, "it has tensors, but no prompt")


def _find_bad_values(
    parts: Mapping[str, Tensor], widths: dict[str, int]
) -> tuple[FindingKind, str] | None:
    """Find values or a width that no conditioner gives; `widths` keeps those of the first."""
    for part, tensor in parts.items():
        width = tensor.shape[-1]
        if part != "mask" and widths.setdefault(part, width) != width:
            return "shape", f"{part} is {width} wide, but others are {widths[part]} wide"
        if not is_finite(tensor):
            return "not finite", f"{part} holds NaN or infinity"
    return None


def _check_index(
    path: Path, number: int, shard: Shard, index: CacheIndex
) -> Iterator[CacheFinding]:
    """Yield rows of the index without an entry, and entries and ids without a row."""
    for key in sorted(index.keys_in(number) - shard.entries.keys()):
        yield CacheFinding("index", path.name, key, "the index has a key that its shard lacks")
    for key in index.missing(number, shard):
        yield CacheFinding("index", path.name, key, "the index lacks a key or id of its shard")


def _drop(path: Path, shard: Shard, bad: set[str]) -> None:
    """Write the shard again without the prompts `bad`; remove it if nothing is left."""
    entries = {key: entry for key, entry in shard.entries.items() if key not in bad}
    if not entries and not shard.ids:
        path.unlink(missing_ok=True)
        return
    names = {f"{key}.{part}" for key in entries for part in STORED}
    tensors = {name: t.clone() for name, t in shard.tensors.items() if name in names}
    replace(path, Shard(shard.identity, entries, shard.ids, tensors))


def _describe_differences(shard: Shard, wanted: bytes) -> str:
    """Name the fields in which the shard's identity differs."""
    now, then = json.loads(wanted), shard.identity["conditioner"]
    names = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
    return f"other settings: {', '.join(names)}"
