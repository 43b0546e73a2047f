"""Files that could block or never end, and limits of time and memory for tests of bad input."""

import os
import signal
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDLESS = Path("/dev/zero")


def alarm_after(seconds: int) -> Iterator[None]:
    """Within a fixture: end the test run if a test waits for longer than `seconds`."""
    signal.alarm(seconds)
    yield
    signal.alarm(0)


def special_files(folder: Path, suffix: str = "") -> list[Path]:
    """A FIFO that nobody writes, a link to it, and a link to an endless device."""
    pipe, link, zero = (folder / f"{name}{suffix}" for name in ("pipe", "link", "zero"))
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    zero.symlink_to(ENDLESS)
    return [pipe, link, zero]


@contextmanager
def at_most(seconds: float, mebibytes: int) -> Iterator[None]:
    """Fail if the block takes longer, or holds more memory of Python at its peak."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert peak < mebibytes << 20, f"it took {peak >> 20} MiB"
