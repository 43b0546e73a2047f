"""Files that could block or never end, and an alarm for tests that open them."""

import os
import signal
from collections.abc import Iterator
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
