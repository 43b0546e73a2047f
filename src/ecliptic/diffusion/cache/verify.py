"""Finds bad entries of a dataset cache, and removes them, so that the next run computes them again.

One shard is in memory at a time. A finding names the shard and, if it is about one prompt, the key.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

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
from ecliptic.errors import ConfigError, CorruptFileError, StorageError, TruncatedFileError

FindingKind = (
    Literal["torn", "damaged", "newer", "not finite", "stale", "size", "index", "number"] | Problem
)


@dataclass(frozen=True)
class CacheFinding:
    """One problem in a cache."""

    kind: FindingKind
    shard: str  # file name; "" if the problem is in the whole folder
    key: str  # "" if the problem is in the whole shard
    detail: str
    prompts: int = 0  # that the index knew in a shard that is gone or cannot be read

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
    others: int = 0  # prompts of other settings than the named ones; they were not checked
    removed: int = 0  # those of `others` that were removed
    added: tuple[str, ...] = ()  # shards that were not in the index, and are now

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
    remove_others: bool = False,
    advance: Callable[[int], object] = lambda _: None,
    **options: Unpack[HowOptions],
) -> Findings:
    """Check every byte of the cache in `folder`, and the index against the files.

    Args:
        folder: of `write_cache`.
        conditioner: if given, only its entries under these options are checked and repaired; those
            of other settings are counted.
        repair: remove bad entries; the next `write_cache` computes them again.
        remove_others: in a repair, remove the entries of other settings too.
        advance: is called with the number of newly finished shards.
        **options: of the conditioner.

    Raises:
        ConfigError: `remove_others` without a conditioner or without `repair`.
        StorageError: there is no such folder, or it cannot be changed.
    """
    if remove_others and (conditioner is None or not repair):
        raise ConfigError(
            "remove_others=True removes what other settings made, so it needs the settings to keep "
            "and a repair; pass both, or leave it out."
        )
    folder = Path(folder)
    wanted = None if conditioner is None else canonical_json(conditioner.identity(**options))
    check = _Check(CacheIndex(folder), wanted, repair=repair, remove_others=remove_others)
    for number, path in shard_paths(folder).items():
        check.look_at(number, path)
        advance(1)
    check.look_for_gone()
    return check.finish(folder)


class _Check:
    """One check of a folder: the findings and counts so far."""

    def __init__(
        self, index: CacheIndex, wanted: bytes | None, *, repair: bool, remove_others: bool
    ) -> None:
        self.index = index
        self.wanted = wanted  # the settings that are checked; None: all
        self.repair = repair
        self.remove_others = remove_others
        self.lost = index.lost()
        self.found: list[CacheFinding] = []
        self.shards = self.entries = self.others = self.removed = 0
        self.differences = ""  # of the last shard of other settings
        self.handled: set[int] = set()  # shards whose lost prompts a repair forgets

    def finish(self, folder: Path) -> Findings:
        """Bring the index up to date in a repair, close it, and say what was found."""
        found = [*self.found, *_check_numbers(folder)]
        index = self.index
        if self.repair:
            index.clean()
            index.rebuild(self.handled)
        why = "it was damaged or of another version, and has been rebuilt from the shards"
        found += [CacheFinding("index", path.name, "", why) for path in index.replaced]
        new = [] if index.replaced else sorted(index.changes.added)
        index.close()
        return Findings(
            tuple(found),
            self.shards,
            self.entries,
            self.repair,
            self.others,
            self.removed,
            tuple(shard_path(folder, number).name for number in new),
        )

    def look_at(self, number: int, path: Path) -> None:
        """Check one shard."""
        self.shards += 1
        try:
            shard = read_shard(path)
        except StorageError as error:  # only a later version can tell whether it is good
            self._report("newer", path, f"{error} It is left as it is.")
            return
        except (CorruptFileError, OSError) as error:
            if os.path.lexists(path):  # else another process removed it in a repair
                self._look_at_unreadable(number, path, error)
            else:
                self.shards -= 1
            return
        if self._is_other(shard.identity):
            self.differences = _describe_differences(shard, self.wanted or b"")
            self._count_other(number, len(shard.entries), path)
            return
        self.entries += len(shard.entries)
        found = list(_check_entries(path, shard))
        self.found += found + list(_check_index(path, number, shard, self.index))
        self._compare_sizes(number, path)
        self._report_lost(number, path)
        if self.repair and found:
            self.handled.add(number)
            _drop(path, shard, {finding.key for finding in found})

    def look_for_gone(self) -> None:
        """Report shards that are no longer there, and settings of which there is nothing."""
        for number in self.lost:
            path = shard_path(self.index.folder, number)
            if not os.path.lexists(path):
                if self._was_other(number):
                    self._count_other(number, self.lost[number][0], path)
                else:
                    self._report_lost(number, path)
        if self.others and not self.entries:
            left = "removed" if self.remove_others else "kept"
            why = (
                f"no prompt has these settings; {self.others} of other settings "
                f"({self.differences}) are {left}"
            )
            self.found.append(CacheFinding("stale", "", "", why))

    def _look_at_unreadable(self, number: int, path: Path, error: Exception) -> None:
        prompts = self._count_known(number)
        if self._was_other(number):
            self._count_other(number, prompts, path)
            return
        torn = isinstance(error, TruncatedFileError) or _is_empty(path)
        why = f"{error} The index knew {prompts} prompts in it." if prompts else str(error)
        if self.repair:
            self.handled.add(number)
            why += _remove(path)
        self._report("torn" if torn else "damaged", path, why, prompts)

    def _count_known(self, number: int) -> int:
        """The prompts of a shard that cannot be read, as far as the index knows."""
        return self.lost.get(number, (0, 0))[0] or len(self.index.keys_in(number))

    def _count_other(self, number: int, prompts: int, path: Path) -> None:
        """Count prompts of other settings, and remove them if asked."""
        self.others += prompts
        if self.remove_others:
            self.handled.add(number)
            if why := _remove(path):
                self._report("stale", path, why.strip())
            else:
                self.removed += prompts

    def _compare_sizes(self, number: int, path: Path) -> None:
        if number in self.index.changes.resized:
            then, now = self.index.changes.resized[number]
            self._report("size", path, f"it has {now} bytes, but the index knew {then}")

    def _report_lost(self, number: int, path: Path) -> None:
        """Report what the index knew in a shard and is found nowhere now."""
        prompts, ids = self.lost.get(number, (0, 0))
        if prompts or ids:
            lack = "lacks" if os.path.lexists(path) else "is missing; it held"
            why = f"the shard {lack} {prompts} prompts and {ids} ids that the index knew"
            self.handled.add(number)
            self._report("missing", path, why, prompts)

    def _report(self, kind: FindingKind, path: Path, why: str, prompts: int = 0) -> None:
        self.found.append(CacheFinding(kind, path.name, "", why, prompts))

    def _was_other(self, number: int) -> bool:
        """Whether a shard that cannot be read now had other settings when it could."""
        known = self.index.identity_of(number)
        return known is not None and self._is_other(known)

    def _is_other(self, identity: Mapping[str, Any]) -> bool:
        return self.wanted is not None and canonical_json(identity["conditioner"]) != self.wanted


def _check_numbers(folder: Path) -> Iterator[CacheFinding]:
    """Yield shards whose number is not read, or leaves none for the next; a repair keeps them."""
    for path in misnumbered(folder):
        why = "its number is not one of a shard, so it is not read; rename or remove it yourself"
        yield CacheFinding("number", path.name, "", why)
    if os.path.lexists(last := shard_path(folder, LAST)):
        why = "it has the last number, so nothing can be written; rename or remove it yourself"
        yield CacheFinding("number", last.name, "", why)


def _remove(path: Path) -> str:
    """Remove a shard; returns what to add to its finding if that fails."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f" It cannot be removed: {error.strerror}; remove it yourself."
    return ""


def _is_empty(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size == 0
    except OSError:
        return False


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
    return ", ".join(names)
