"""Many images prepared by threads: order kept, memory bounded, rejects reported.

Threads suffice because Pillow decodes and resizes outside the interpreter lock. What is done to
one image is `image.py`.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

from ecliptic.errors import ConfigError, EclipticError, ImageError
from ecliptic.inputs.decode import describe

OnError = Literal["raise", "reject"]
S = TypeVar("S")
R = TypeVar("R")  # what an image becomes: an array, or whatever the caller makes of it


@dataclass(frozen=True)
class Reject:
    """One item that could not be used, and why."""

    index: int  # place among the items, from 0
    source: str  # its name for people
    error: EclipticError

    @property
    def reason(self) -> str:
        """The error's message."""
        return str(self.error)

    def to_json(self) -> dict[str, object]:
        """Place, name and reason as JSON values."""
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
) -> Iterator[tuple[int, R | Reject]]:
    """(index, array) for every source in order, or (index, `Reject`).

    Args:
        sources: any iterable; it is read lazily, at most `ahead` items past the last one yielded.
        preprocess: a `Preprocess`, or its `rgb` for a quarter of the memory.
        workers: threads; one per available core unless given.
        ahead: images in flight, waiting results included; four per thread unless given.
        on_error: "raise" the first `ImageError` in its place, or yield a `Reject` there.

    Closing the iterator early cancels what has not begun and waits for the rest. Errors of
    `sources` itself, and any that are no `ImageError`, always pass through.

    Raises:
        ConfigError: fewer than one worker or image in flight, or an unknown `on_error`.
    """
    workers = available_cores() if workers is None else workers
    ahead = 4 * workers if ahead is None else ahead
    if workers < 1 or ahead < 1:
        raise ConfigError(f"workers and ahead start at 1, got {workers} and {ahead}.")
    if on_error not in ("raise", "reject"):
        raise ConfigError(f"on_error is 'raise' or 'reject', not {on_error!r}.")
    return _decode(sources, preprocess, workers, ahead, on_error)


def _decode(
    sources: Iterable[S],
    preprocess: Callable[[S], R],
    workers: int,
    ahead: int,
    on_error: OnError,
) -> Iterator[tuple[int, R | Reject]]:
    def attempt(index: int, source: S) -> R | Reject:
        try:
            return preprocess(source)
        except ImageError as error:
            return Reject(index, describe(source), error)

    def finish(index: int, future: Future[R | Reject]) -> tuple[int, R | Reject]:
        result = future.result()
        if isinstance(result, Reject) and on_error == "raise":
            raise result.error
        return index, result

    pool = ThreadPoolExecutor(workers, thread_name_prefix="ecliptic-decode")
    pending: deque[tuple[int, Future[R | Reject]]] = deque()
    try:
        for index, source in enumerate(sources):
            pending.append((index, pool.submit(attempt, index, source)))
            if len(pending) == ahead:
                yield finish(*pending.popleft())
        while pending:
            yield finish(*pending.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
