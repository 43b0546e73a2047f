"""Prepares many images in threads: keeps their order, bounds memory, reports rejects.

Threads are enough because Pillow decodes and resizes without the interpreter lock. `image.py`
prepares one image. One image may be as large as `ImageLimits` allows; without `PixelBudget`, as
many as there are threads would be decoded in memory together.
"""

import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ConfigError, EclipticError, ImageError
from ecliptic.inputs.decode import describe

BUDGET = 64_000_000  # pixels in all threads; 9 bytes each, 13 where an image is turned
SPARE = 96_000_000  # bytes that are kept while a pool runs: two images of 16 megapixels
HELD = 96_000_000  # bytes of encoded images that may wait, beyond four images per thread
YIELDING = 3  # added to the nice value of the threads: about half a share of a core
LARGE = 8_000_000  # pixels; above, memory is given back to the system after each image

OnError = Literal["raise", "reject"]
S = TypeVar("S")
R = TypeVar("R")  # result for one image: an array, or what `preprocess` returns


@dataclass(frozen=True)
class Reject:
    """One item that could not be used, with its error."""

    index: int  # place among the items, from 0
    source: str  # its name in messages
    error: EclipticError

    @property
    def reason(self) -> str:
        """The error's message."""
        return str(self.error)

    def to_json(self) -> dict[str, object]:
        """Index, name and reason as JSON values."""
        return {"index": self.index, "source": self.source, "reason": self.reason}


def available_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode_many(
    sources: Iterable[S],
    preprocess: Callable[[S], R],
    *,
    workers: int | None = None,
    ahead: int | None = None,
    on_error: OnError = "raise",
    held: Callable[[S], int] | None = None,
) -> Iterator[tuple[int, R | Reject]]:
    """Yield (index, array) or (index, `Reject`) for every source, in order.

    Args:
        sources: any iterable; it is read lazily, at most `ahead` items past the last one yielded.
        preprocess: a `Preprocess`, or its `rgb` for a quarter of the memory.
        workers: threads; by default one per available core.
        ahead: images in flight, with results that wait; by default four per thread.
        on_error: "raise" the first `ImageError`, or "reject" to yield a `Reject` instead.
        held: bytes that a source keeps in memory until it is prepared. Above `HELD` of them, no
            more than four sources per thread are in flight.

    Closing the iterator early cancels images that have not started and waits for the others.
    Errors of `sources` itself, and all that are not an `ImageError`, always pass through.

    Raises:
        ConfigError: `workers` or `ahead` is below 1, or `on_error` is unknown.
    """
    workers = available_cores() if workers is None else workers
    ahead = 4 * workers if ahead is None else ahead
    if workers < 1 or ahead < 1:
        raise ConfigError(f"workers and ahead must be at least 1, got {workers} and {ahead}.")
    if on_error not in ("raise", "reject"):
        raise ConfigError(f"on_error must be 'raise' or 'reject', not {on_error!r}.")
    return _decode(sources, preprocess, workers, _Flight(ahead, 4 * workers, held), on_error)


def _decode(
    sources: Iterable[S],
    preprocess: Callable[[S], R],
    workers: int,
    flight: "_Flight[S]",
    on_error: OnError,
) -> Iterator[tuple[int, R | Reject]]:
    def attempt(index: int, source: S) -> tuple[int, R | Reject]:
        try:
            return index, preprocess(source)
        except ImageError as error:
            if on_error == "raise":
                raise
            return index, Reject(index, describe(source), error)

    pool = ThreadPoolExecutor(workers, "ecliptic-decode", initializer=_yield_to_others)
    pending: deque[tuple[Future[tuple[int, R | Reject]], int]] = deque()
    with spare.keep():
        try:
            for index, source in enumerate(sources):
                pending.append((pool.submit(attempt, index, source), flight.size_of(source)))
                while flight.is_full(pending):
                    yield pending.popleft()[0].result()
            while pending:
                yield pending.popleft()[0].result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True)
class _Flight(Generic[S]):
    """How many sources may wait to be prepared, or with their results."""

    most: int
    always: int  # so many, however large they are
    held: Callable[[S], int] | None  # bytes of a source that is not prepared yet

    def size_of(self, source: S) -> int:
        return self.held(source) if self.held else 0

    def is_full(self, pending: Collection[tuple[Future[Any], int]]) -> bool:
        """Whether no more may follow these, each with its bytes."""
        if len(pending) >= self.most:
            return True
        waiting = sum(size for found, size in pending if not found.done())
        return len(pending) >= self.always and waiting > HELD


def _yield_to_others() -> None:
    """Let threads that compute go first: a tower waits for its slowest thread, decoding does not.

    Only Linux has a nice value of each thread. Where it may not be set, it stays.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            usual = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), usual + YIELDING)


class PixelBudget:
    """Lets threads take shares of a number of pixels, and wait while too few are free."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._free = pixels
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Hold a share; an image above the whole budget waits until it is alone."""
        share = min(pixels, self.pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            if pixels > LARGE:
                _find_trim()()
            with self._changed:
                self._free += share
                self._changed.notify_all()


@cache
def _find_trim() -> Callable[[], object]:
    """glibc's `malloc_trim`, else nothing: each thread has an arena that keeps what was freed."""
    trim = None
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and no arenas
    return (lambda: trim(0)) if trim else (lambda: None)


class SpareBuffers:
    """Memory for decoded images that is used again while a pool runs.

    New memory comes from the system in pages of zeros: a fifth of the time of decoding.
    """

    def __init__(self, most: int) -> None:
        self.most = most  # bytes that wait to be used again
        self._free: list[NDArray[np.uint8]] = []
        self._pools = 0
        self._lock = threading.Lock()

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Keep buffers until no such block is left."""
        with self._lock:
            self._pools += 1
        try:
            yield
        finally:
            with self._lock:
                self._pools -= 1
                if not self._pools:
                    self._free.clear()

    @contextmanager
    def take(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """A buffer of `count` bytes or more, of any content: the smallest that is free."""
        with self._lock:
            fitting = [(len(one), i) for i, one in enumerate(self._free) if len(one) >= count]
            buffer = self._free.pop(min(fitting)[1]) if fitting else None
        if buffer is None:
            buffer = np.empty(count, np.uint8)
        try:
            yield buffer
        finally:
            with self._lock:
                if self._pools and len(buffer) <= self.most:
                    self._free.append(buffer)
                    while sum(map(len, self._free)) > self.most:
                        self._free.pop(0)


budget = PixelBudget(BUDGET)
spare = SpareBuffers(SPARE)
