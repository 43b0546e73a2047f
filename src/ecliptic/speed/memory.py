"""Memory of this process and of its device: before and after loading, and the peak in use.

Resident memory is read from `/proc` of Linux; elsewhere it is not known. Its peak is looked for
every few milliseconds, because the kernel's own is of the whole life of the process.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from ecliptic.storage import open_regular

_PAUSE = 0.003  # seconds between two looks


@dataclass(frozen=True)
class MemoryUse:
    """Bytes in one place."""

    where: str  # "process": resident memory, with Python and torch; "device": tensors of the device
    before: int  # before loading
    loaded: int  # after loading; weights mapped from a file count when they are first read
    peak: int  # while the model was loaded and every row was computed once


def read_status(name: str, file: str = "/proc/self/status") -> int | None:
    """The bytes of a line such as "VmRSS:  1234 kB"; None where there is no such file or line."""
    if not Path(file).exists():
        return None
    with open_regular(file) as status:
        for line in status:
            words = line.decode().split()
            if words[:1] == [f"{name}:"]:
                return int(words[1]) * 1024
    return None


def resident() -> int | None:
    """Bytes of this process in memory, mapped files that were read included."""
    return read_status("VmRSS")


def available() -> int | None:
    """Bytes that can still be used on this machine."""
    return read_status("MemAvailable", "/proc/meminfo")


class MemoryWatch:
    """Notes memory from its start to its end; a context manager."""

    def __init__(self, device: torch.device) -> None:
        torch.empty(0, device=device)  # CUDA counts only once it is initialised
        self._module: Any = torch.get_device_module(device)
        self._device = device
        self._counts = hasattr(self._module, "max_memory_allocated")
        self._before = self._loaded = (resident(), self._allocated())
        self._peak = self._before[0]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        if self._counts:
            self._module.reset_peak_memory_stats(self._device)
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def note_loaded(self) -> None:
        """Note what is in use now, after loading."""
        self._loaded = (resident(), self._allocated())

    def uses(self) -> tuple[MemoryUse, ...]:
        """What was in use; nothing for a place whose memory is not known."""
        found = []
        if self._before[0] is not None and self._loaded[0] is not None:
            peak = max(self._peak or 0, self._loaded[0])
            found.append(MemoryUse("process", self._before[0], self._loaded[0], peak))
        if self._counts:
            peak = self._module.max_memory_allocated(self._device)
            found.append(MemoryUse("device", self._before[1], self._loaded[1], peak))
        return tuple(found)

    def _allocated(self) -> int:
        return int(self._module.memory_allocated(self._device)) if self._counts else 0

    def _look(self) -> None:
        while self._peak is not None and not self._ended.wait(_PAUSE):
            self._peak = max(self._peak, resident() or 0)
