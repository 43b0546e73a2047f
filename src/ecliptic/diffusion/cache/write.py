"""Writes the conditionings of any number of captions into a folder, each prompt once.

Memory holds one shard, `AHEAD` captions, those that other writers are at work on, and one batch,
whatever the number of captions; the index of the folder knows the stored prompts. A run may be
stopped at any time, also by kill -9: it leaves only whole shards, and the next run computes the
rest. A shard is closed when it is large or when its work is `seconds` old. Several processes may
write into one folder; they share the work, also that of one that is killed.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from ecliptic.checks import check_count
from ecliptic.diffusion.arguments import PromptTensors
from ecliptic.diffusion.cache.index import CacheIndex
from ecliptic.diffusion.cache.keys import (
    TextConditioner,
    cache_identity,
    keep,
    key_maker,
    size_of,
)
from ecliptic.diffusion.cache.pace import Pace
from ecliptic.diffusion.cache.shards import (
    Shard,
    ShardEntry,
    make_entry,
    name_tensors,
    write_records,
)
from ecliptic.diffusion.options import HowOptions
from ecliptic.errors import (
    ConfigError,
    EclipticError,
    InputError,
    NumericalError,
    StorageError,
    TextError,
)
from ecliptic.storage import make_folder

AHEAD = 1024  # captions that are looked up together
LONGEST = 100_000  # characters of a prompt or id; the shard stores its text
MOST_ROWS = 20_000  # ids and prompts of one shard, whose header then stays below 10 MB
MOST_TEXT = 8 << 20  # characters of ids and prompts, because a reader holds them in memory
_PATIENCE = 6  # times `seconds` without news of other writers, until their work is done here
# Errors of one prompt; options that are wrong for all prompts already failed in `cache_identity`.
_REFUSED = (InputError, NumericalError, ConfigError)


@dataclass(frozen=True)
class Caption:
    """A prompt and its id, such as the name of its image."""

    id: str
    text: str
    index: int = -1  # its place in the table, for reports


@dataclass
class CacheReport:
    """The number of captions with each outcome."""

    written: int = 0  # prompts that were computed
    reused: int = 0  # captions whose prompt was stored before, or by another writer
    duplicates: int = 0  # captions whose prompt came earlier in this run
    truncated: int = 0  # those of `written` that lost words
    rejected: int = 0  # captions that cannot be used
    torn: tuple[int, ...] = ()  # numbers of shards that cannot be read; their prompts count as new
    interrupted: bool = False


@dataclass(frozen=True)
class Watch:
    """Callbacks for progress, and for captions that cannot be used."""

    advance: Callable[[int], object] = lambda _: None  # how many more captions are done
    reject: Callable[[Caption, EclipticError], object] | None = None  # None: the error is raised
    stop_quietly: bool = False  # Ctrl-C ends the run with a report instead of an exception


def write_cache(
    conditioner: TextConditioner,
    captions: Iterable[Caption],
    folder: Path | str,
    *,
    batch_size: int = 32,
    shard_size: int = 256 << 20,
    seconds: float = 10.0,
    dtype: str | None = None,
    watch: Watch | None = None,
    **options: Unpack[HowOptions],
) -> CacheReport:
    """Store the conditioning of each caption in a cache folder.

    Args:
        conditioner: of `conditioner(...)`.
        captions: read once and in order; never all in memory.
        folder: created if it is missing.
        batch_size: prompts encoded together.
        shard_size: bytes of tensors in one file.
        seconds: of work in one file, which is all that a kill can lose.
        dtype: "fp32", "bf16" or "fp16" to store; None: as computed.
        watch: callbacks for progress and rejected captions.
        **options: of the conditioner; they are part of the keys.

    Raises:
        InputError, NumericalError, ConfigError: of a caption, if `watch.reject` is None.
        StorageError: the folder cannot be written, or the conditioner changed during the run.
    """
    check_count("batch_size", batch_size)
    check_count("shard_size", shard_size)
    watch, pace = watch or Watch(), Pace(seconds, AHEAD)
    identify = partial(cache_identity, conditioner, dtype, **options)
    identity, encode = identify(), partial(conditioner.each, **options)
    index = _open_index(Path(folder))
    work = _Work(encode, identify, batch_size, dtype, shard_size)
    report = CacheReport(torn=tuple(index.unreadable()))
    _Run(index, identity, work, report, watch, pace).take(captions)
    return report


def _open_index(folder: Path) -> CacheIndex:
    make_folder(folder)
    index = CacheIndex(folder)
    index.clean()
    return index


@dataclass(frozen=True)
class _Work:
    """How prompts are computed and stored."""

    encode: Callable[[list[str]], Iterable[PromptTensors]]
    identify: Callable[[], dict[str, Any]]
    batch_size: int
    dtype: str | None
    limit: int  # bytes of tensors in a shard


@dataclass
class _Run:
    """One run: the data to write, and the counts so far."""

    index: CacheIndex
    identity: dict[str, Any]
    work: _Work
    report: CacheReport
    watch: Watch
    pace: Pace
    entries: dict[str, ShardEntry] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    edited: dict[str, str] = field(default_factory=dict)  # those that stood for another key
    tensors: dict[str, Tensor] = field(default_factory=dict)
    size: int = 0  # bytes of the tensors
    text: int = 0  # characters of ids and prompts
    own: set[int] = field(default_factory=set)  # shards of this run
    refused: list[str] = field(default_factory=list)  # keys of this turn
    waiting: dict[str, list[Caption]] = field(default_factory=dict)  # other writers have them

    def __post_init__(self) -> None:
        write_records(Shard(self.identity))  # raises now, not when the first shard is full
        self.key_of = key_maker(self.identity)

    def take(self, captions: Iterable[Caption]) -> None:
        """Store all captions, leave the index, and close it, whatever happens."""
        try:
            remaining = iter(captions)
            while some := list(islice(remaining, AHEAD)):
                self.add(some)
                self.watch.advance(len(some))
            self.finish()
        except KeyboardInterrupt:
            self.report.interrupted = True
            if not self.watch.stop_quietly:
                raise
        finally:
            try:
                self.publish()
            finally:
                self.index.leave()
                self.index.close()

    def add(self, captions: list[Caption]) -> None:
        """Store the new captions, and the ids of all."""
        self._compute(self._find_new(captions))
        if len(self.waiting) > MOST_ROWS:
            self.finish()

    def finish(self) -> None:
        """Wait for the prompts that other writers have claimed, or compute them."""
        moved = time.monotonic()
        while self.waiting:
            self.publish()  # others may be waiting for it
            before, self.waiting = self.waiting, {}
            stuck = time.monotonic() - moved > _PATIENCE * self.pace.seconds
            self._compute(before, steal=stuck)
            if len(self.waiting) < len(before):
                moved = time.monotonic()
            else:
                time.sleep(min(1.0, self.pace.seconds / 20))

    def _compute(self, fresh: dict[str, list[Caption]], *, steal: bool = False) -> None:
        """Compute what no other writer has claimed, in turns; the rest waits."""
        while fresh:
            claimed = self.index.claim(list(fresh), self.pace.size, steal=steal)
            for key in claimed.stored:
                captions = fresh.pop(key)
                self.report.reused += len(captions)
                self._store_ids(key, captions)
            if not claimed.mine:
                break
            self._take_turn({key: fresh.pop(key) for key in claimed.mine})
        for key, captions in fresh.items():
            self.waiting.setdefault(key, []).extend(captions)

    def _take_turn(self, claimed: dict[str, list[Caption]]) -> None:
        self.pace.start(unsaved=bool(self.entries))
        keys = list(claimed)
        for start in range(0, len(keys), self.work.batch_size):
            batch = {key: claimed[key] for key in keys[start : start + self.work.batch_size]}
            made = list(self._encode(batch))
            self._check_identity()
            for key, one in made:
                self._store(key, batch[key], one)
        if self.refused:
            self.index.release(self.refused)
            self.refused = []
        self.pace.end()
        if self.pace.is_due():
            self.publish()

    def _check_identity(self) -> None:
        """Raise StorageError if the keys are no longer those of what was just encoded."""
        if self.work.identify() != self.identity:
            raise StorageError(
                "the conditioner changed while its prompts were encoded, by add_lora or "
                "remove_lora for example, so these tensors are not stored; run again, and change "
                "nothing meanwhile."
            )

    def publish(self) -> None:
        """Write the pending data as a shard, if there is any.

        Edited ids are written a second time: if the shard is lost, they must not stand for their
        old prompts again.
        """
        if self.entries or self.ids:
            some = [Shard(self.identity, self.entries, self.ids, self.tensors)]
            some += [Shard(self.identity, ids=self.edited)] if self.edited else []
            self.entries, self.ids, self.edited, self.tensors = {}, {}, {}, {}
            self.size = self.text = 0
            self.own.update(map(self.index.publish, some))

    def _find_new(self, captions: list[Caption]) -> dict[str, list[Caption]]:
        """The captions whose prompt is not stored yet, by key."""
        fresh: dict[str, list[Caption]] = {}
        keys = [self.key_of(caption.text) for caption in captions]
        there = self.index.shards_of(keys)
        for key, caption in zip(keys, captions, strict=True):
            if max(len(caption.text), len(caption.id)) > LONGEST:
                self._reject([caption], TextError(_describe_length(caption)))
                continue
            if key in self.entries or there.get(key) in self.own:
                self.report.duplicates += 1
            elif key in there:
                self.report.reused += 1
            else:
                fresh.setdefault(key, []).append(caption)
                continue
            self._store_ids(key, [caption])
        return fresh

    def _encode(self, batch: dict[str, list[Caption]]) -> Iterator[tuple[str, PromptTensors]]:
        """Yield each key with its tensors; encode one by one if a prompt is refused."""
        prompts = [captions[0].text for captions in batch.values()]
        try:
            made = list(self.work.encode(prompts))
        except _REFUSED as error:
            if len(batch) > 1:
                for key, captions in batch.items():
                    yield from self._encode({key: captions})
            else:
                [(key, captions)] = batch.items()
                self._reject(captions, error, key)
            return
        yield from zip(batch, made, strict=True)

    def _store(self, key: str, captions: list[Caption], made: PromptTensors) -> None:
        try:
            _check_single(captions[0], made)
            parts = keep(made, self.work.dtype)
        except _REFUSED as error:
            self._reject(captions, error, key)
            return
        self.entries[key] = make_entry(key, captions[0].text, parts)
        self.tensors.update(name_tensors(key, parts))
        self.size += size_of(parts.values())
        self.text += len(captions[0].text)
        self.report.written += 1
        self.report.duplicates += len(captions) - 1
        self.report.truncated += _is_truncated(made)
        self._store_ids(key, captions)

    def _store_ids(self, key: str, captions: list[Caption]) -> None:
        """Store the key of the captions' ids, unless it is known."""
        known = self.index.keys_of([caption.id for caption in captions], self.identity)
        for caption in captions:
            stored = self.ids.get(caption.id, known.get(caption.id))
            if stored != key and not (stored is None and caption.id == caption.text):
                self.ids[caption.id] = key
                self.text += len(caption.id)
                if caption.id in known:
                    self.edited[caption.id] = key
            self._publish_if_full()

    def _publish_if_full(self) -> None:
        rows = len(self.entries) + len(self.ids)
        if self.size >= self.work.limit or self.text >= MOST_TEXT or rows >= MOST_ROWS:
            self.publish()

    def _reject(self, captions: list[Caption], error: EclipticError, key: str = "") -> None:
        """Report captions that cannot be used; those with a `key` had been claimed."""
        if self.watch.reject is None:
            raise error
        self.refused += [key] if key else []
        for caption in captions:
            self.report.rejected += 1
            self.watch.reject(caption, error)


def _describe_length(caption: Caption) -> str:
    return (
        f"the caption {caption.id[:80]!r} has {len(caption.text)} characters, and its id "
        f"{len(caption.id)}, but the limit is {LONGEST}; shorten them, or check that the columns "
        "hold captions and ids."
    )


def _check_single(caption: Caption, made: PromptTensors) -> None:
    """Raise TextError if a prompt has several sets of tensors."""
    for name, cause in (("alternatives", "AND"), ("schedule", "a schedule")):
        if len(getattr(made, name, ())) > 1:
            raise TextError(
                f"the caption {caption.id[:80]!r} has more than one set of tensors because of "
                f"{cause}, but a cache stores one; remove it, or use dialect='plain'."
            )


def _is_truncated(made: PromptTensors) -> bool:
    """Whether the ledger of `made`, if it has one, shows dropped tokens."""
    return bool(getattr(getattr(made, "ledger", None), "dropped", ()))
