"""Rounds of one harness: each has its own random numbers, a time limit and a memory limit."""

import faulthandler
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SEED = os.environ.get("SEED") or str(time.time_ns() // 1_000_000)
MINUTES = float(os.environ.get("MINUTES") or 4)
HARNESSES = 11  # that share the minutes
LIMIT_SECONDS = 10  # of one round
LIMIT_MEMORY = 500 << 20  # bytes that the process may grow by in one round


def run_rounds(
    name: str, one: Callable[[random.Random], object], *, seconds: float = LIMIT_SECONDS
) -> int:
    """Call `one(random)` until this harness's share of the minutes is over; return the rounds.

    A round may take `seconds` and LIMIT_MEMORY. A failure names the seed and the number of the
    round; the same seed gives the same rounds.
    """
    end = time.monotonic() + MINUTES * 60 / HARNESSES
    number = 0
    first = int(os.environ.get("ROUND") or 0)
    for number in _numbers(first, end):
        generator = random.Random(f"{name}-{SEED}-{number}")
        before = _peak()
        try:
            with _alarm(seconds):
                one(generator)
            grown = _peak() - before
            assert grown <= LIMIT_MEMORY, f"the round took {grown >> 20} MB"
        except BaseException as error:
            error.add_note(f"repeat it: make fuzz SEED={SEED} ROUND={number}  ({name})")
            raise
    print(f"{name}: {number + 1 - first} rounds, SEED={SEED}")
    return number + 1 - first


def _numbers(first: int, end: float) -> Iterator[int]:
    number = first
    while number == first or time.monotonic() < end:
        yield number
        number += 1


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a round that takes too long; dump the stack first."""

    def stop(*_: Any) -> None:
        faulthandler.dump_traceback()
        raise TimeoutError(f"the round took more than {seconds} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
