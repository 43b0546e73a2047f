"""Measuring and reporting, the same in every benchmark, so that their numbers can be compared."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any


def measure(fn: Callable[[], object], repeats: int, warmup: int) -> list[float]:
    """Seconds of each of `repeats` calls, after `warmup` calls; waits for CUDA if it is in use."""
    for _ in range(warmup):
        fn()
    seconds = []
    for _ in range(repeats):
        _wait_for_device()
        start = time.perf_counter()
        fn()
        _wait_for_device()
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_in_turns(
    fns: dict[str, Callable[[], object]], repeats: int, warmup: int = 2, settle: int = 0
) -> dict[str, list[float]]:
    """Seconds of every function, one call of each per round, so that other load affects all.

    `settle` calls go before each measured one, where the work is so short that the memory which
    the others left scattered would count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in fns}
    for fn in fns.values():
        measure(fn, repeats=0, warmup=warmup)
    for _ in range(repeats):
        for name, fn in fns.items():
            seconds[name] += measure(fn, repeats=1, warmup=settle)
    return seconds


def machine() -> str:
    """The machine of a measurement: processor, instructions, usable cores, Python version."""
    from ecliptic.runtime import processor  # imports torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores, Python {platform.python_version()}"


def report(bench: str, rates: dict[str, list[float]], work: float, unit: str, ours: str) -> None:
    """Print median, range and ratio to `ours` for people, then one JSON line for scripts.

    Args:
        bench: name of the benchmark.
        rates: seconds of each call, by contender.
        work: number of units in one call.
        unit: name of a unit, e.g. "images".
        ours: the contender that the others are compared with.
    """
    medians = print_rates(bench, rates, work, unit, ours)
    line: dict[str, Any] = {"bench": bench, "unit": f"{unit}/s", "machine": machine()}
    line["rates"] = {name: round(rate, 2) for name, rate in medians.items()}
    print(json.dumps(line))


def print_rates(
    bench: str, rates: dict[str, list[float]], work: float, unit: str, ours: str
) -> dict[str, float]:
    """Print the lines of `report` for people, and return the medians, in units per second."""
    medians = {name: work / statistics.median(seconds) for name, seconds in rates.items()}
    print(f"{bench} on {machine()}")
    for name, seconds in rates.items():
        low, high = work / max(seconds), work / min(seconds)
        ratio = medians[ours] / medians[name]
        print(
            f"  {name:32} {medians[name]:10.1f} {unit}/s  "
            f"({low:.1f} to {high:.1f})  {ours} is {ratio:.2f}x"
        )
    return medians


def report_seconds(bench: str, taken: dict[str, list[float]]) -> None:
    """Print the same as `report`, in seconds per call and relative to ecliptic."""
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    print(f"{bench} on {machine()}")
    for name, seconds in taken.items():
        ratio = medians[name] / medians["ecliptic"]
        print(
            f"  {name:32} {medians[name]:8.3f} s  "
            f"({min(seconds):.3f} to {max(seconds):.3f})  {ratio:.2f}x ecliptic's"
        )
    line: dict[str, Any] = {"bench": bench, "unit": "s", "machine": machine()}
    line["seconds"] = {name: round(median, 4) for name, median in medians.items()}
    print(json.dumps(line))


def _wait_for_device() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
