"""The first calls of each row: they warm up, give vectors to compare, and tell how long it takes.

In them the runtime packs weights and a device compiles and allocates, so they are not measured.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecliptic.engine import is_out_of_memory
from ecliptic.speed.clock import Wait, time_calls
from ecliptic.speed.inputs import Workload
from ecliptic.speed.settings import SpeedSettings

_SLOW = 3.0  # seconds of a first call, above which no second one is made
_FIRST = 1 / 3  # of the time left, the most that a first call may be expected to take
_LIKE = 1 / 12  # of the time, the most that a call may take whose batch is that of another kind


@dataclass(frozen=True)
class Warm:
    """One row that can be measured."""

    work: Workload
    seconds: float  # of one call
    output: Any  # of the first call
    smallest: bool  # the smallest batch of its kind, which is measured in any case


def warm_up(
    work: Sequence[Workload],
    calls: Mapping[str, Callable[[Any], Any]],
    wait: Wait,
    settings: SpeedSettings,
    notes: list[str],
    *,
    compiled: bool = False,
) -> list[Warm]:
    """Call each row once or twice; a row that takes too long or too much memory becomes a note.

    First calls of `compiled` towers compile; they do not count, neither for a row nor as time.
    """
    done: list[Warm] = []
    end = time.perf_counter() + settings.seconds
    for one in work:
        most = _FIRST * (end - time.perf_counter())
        like = [warm for warm in done if warm.work.kind == one.like]
        if one.like and not like:
            continue  # the note of those says why
        if like:
            fitting = [warm.work.batch for warm in like if warm.seconds <= _LIKE * settings.seconds]
            one = one.cut(max(fitting, default=like[0].work.batch))
        same = [warm for warm in done if warm.work.kind == one.kind]
        expected = one.batch * min((w.seconds / w.work.batch for w in same), default=0.0)
        if same and expected > most:
            notes.append(say_too_long(one, expected, settings))
            continue
        try:
            first, seconds, output = _call(one, calls[one.kind], wait, twice=compiled)
            end += first if compiled else 0
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            notes.append(f"{_name(one)} were not measured: memory ran out.")
            continue
        done.append(Warm(one, seconds, output, smallest=not same))
    return done


def say_too_long(work: Workload, seconds: float, settings: SpeedSettings) -> str:
    """Why a row is not measured whose call takes so many seconds, and what to do about it."""
    took = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"
    needed = math.ceil(2 * settings.seconds + seconds / _FIRST)
    return (
        f"{_name(work)} were not measured: one call takes about {took} s; "
        f"pass seconds={needed} to measure them."
    )


def _name(work: Workload) -> str:
    return f"{work.what}, in batches of {work.batch},"


def _call(
    work: Workload, call: Callable[[Any], Any], wait: Wait, *, twice: bool
) -> tuple[float, float, Any]:
    """Seconds of a first call, those of a call, and the output; a slow one is made once."""
    outputs: list[Any] = []
    first = time_calls(lambda number: outputs.append(call(work.input_of(number))), 0, 1, wait)
    if first >= _SLOW and not twice:
        return first, first, outputs[0]
    # the first call packs and allocates, so it may be far slower
    return first, time_calls(lambda number: call(work.input_of(number)), 1, 1, wait), outputs[0]
