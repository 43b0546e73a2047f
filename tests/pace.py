"""How slow this machine is, so that promises of CPU time can be tested on any."""

import time
from functools import cache

_USUAL = 0.06  # seconds of the loop on a core for which the promises hold as they are written


@cache
def slowness() -> float:
    """How many times slower Python is here; 1 on a core that is as fast or faster."""
    return max(1.0, min(_measure() for _ in range(5)) / _USUAL)


def _measure() -> float:
    began, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number * number % 7
    return time.process_time() - began
