"""Seconds of calls: the device is waited for, and contenders take turns within a budget of time."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

SHORTEST = 0.01  # seconds of one run; shorter calls are repeated within it
MOST_RUNS = 50

Call = Callable[[int], Any]  # with the number of the call, which chooses its input
Wait = Callable[[], None]


def find_wait(device: torch.device) -> Wait:
    """A function that returns when all work of `device` is done; on CPU it returns at once.

    Calls of CUDA return before their work is done, so every time is taken after a wait.
    """
    module = torch.get_device_module(device)
    if device.type == "mps":  # there is one, and it takes no argument
        return module.synchronize  # type: ignore[no-any-return]
    return partial(module.synchronize, device)


def time_calls(call: Call, first: int, count: int, wait: Wait) -> float:
    """Seconds per call of `count` calls in a row, numbered from `first`."""
    wait()
    start = time.perf_counter()
    for number in range(first, first + count):
        call(number)
    wait()
    return (time.perf_counter() - start) / count


def measure_in_turns(
    calls: Mapping[str, Call], wait: Wait, seconds: float
) -> dict[str, list[float]]:
    """Seconds per call of each run, by contender.

    One run of each contender makes a round, so that other programs on the machine slow all of them.
    There is at least one round and at most `MOST_RUNS`, and none begins that would not end in time.

    Args:
        calls: what is measured, called before, so that it is warm.
        wait: that of `find_wait`.
        seconds: the budget.
    """
    start = time.perf_counter()
    runs = {name: [time_calls(call, 0, 1, wait)] for name, call in calls.items()}
    longest = time.perf_counter() - start
    counts = {name: math.ceil(SHORTEST / max(took[0], 1e-9)) for name, took in runs.items()}
    done = 1
    if max(counts.values()) > 1:  # too short to be measured alone
        runs, done = {name: [] for name in calls}, 0
    while not done or (done < MOST_RUNS and time.perf_counter() + longest < start + seconds):
        begun = time.perf_counter()
        for name, call in calls.items():
            runs[name].append(time_calls(call, done * counts[name], counts[name], wait))
        longest = time.perf_counter() - begun
        done += 1
    return runs
