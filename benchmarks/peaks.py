"""Seconds and peak memory of code in a new interpreter, so that nobody else's memory counts."""

import json
import subprocess
import sys
from dataclasses import dataclass

_MEASURE = """
import json, time
{prepare}

def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))

before = resident("VmRSS")
seconds = []
for number in range({repeats}):
    begun = time.perf_counter()
    run(number)
    seconds.append(time.perf_counter() - begun)
print(json.dumps([seconds, resident("VmHWM") - before]), flush=True)
"""


@dataclass(frozen=True)
class Cost:
    """What some calls took."""

    seconds: list[float]  # of each call
    memory: float  # MiB, the peak above what was in use before the first call


def measure_cost(prepare: str, repeats: int) -> Cost:
    """The cost of `repeats` calls of the function `run(number)` that the code `prepare` defines.

    Linux only: the peak of getrusage includes that of the parent process, so the kernel's is read.
    """
    code = _MEASURE.format(prepare=prepare, repeats=repeats)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, memory = json.loads(found.stdout.splitlines()[-1])
    return Cost(seconds, memory)
