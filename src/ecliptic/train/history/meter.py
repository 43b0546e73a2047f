"""How fast a run is: the wait for data against the work, and the work against the machine."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
SIDES = {"cpu": 1024, "cuda": 8192}  # of the matrices that a machine is timed with


class Meter:
    """Adds up the seconds of steps, and tells rates since it was last read.

    Args:
        peak: the floating point operations per second that the machine can do; 0: not known.
    """

    def __init__(self, peak: float = 0.0) -> None:
        self.peak = peak
        self.operations = 0.0  # of one step
        self._clear()

    def wait(self, batches: Iterator[T]) -> T:
        """The next of `batches`, timed as a wait for data."""
        begun = time.perf_counter()
        found = next(batches)
        self._data += time.perf_counter() - begun
        return found

    def work(self, step: Callable[[], T], pairs: int) -> T:
        """What `step` returns, timed as work; the operations of the first one are counted."""
        begun = time.perf_counter()
        if self.operations:
            found = step()
        else:
            with FlopCounterMode(display=False) as counter:
                found = step()
            self.operations = float(counter.get_total_flops())
        self._work += time.perf_counter() - begun
        self._steps += 1
        self._pairs += pairs
        return found

    def read(self) -> dict[str, Any]:
        """Seconds of waiting and working per step, images per second, and the share of the peak."""
        steps = max(1, self._steps)
        seconds = max(self._data + self._work, 1e-9)
        found: dict[str, Any] = {
            "data_s": self._data / steps,
            "step_s": self._work / steps,
            "images_per_s": self._pairs / seconds,
        }
        if self.peak and self._work:
            found["share_of_peak"] = self.operations * steps / self._work / self.peak
        self._clear()
        return found

    def _clear(self) -> None:
        self._data = self._work = 0.0
        self._steps = self._pairs = 0


def measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the best of a few large matrix products."""
    side = SIDES.get(device.type, 1024)
    a = torch.ones(side, side, device=device, dtype=dtype)
    best = 0.0
    for _ in range(4):
        begun = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = max(best, 2 * side**3 / (time.perf_counter() - begun))
    return best
