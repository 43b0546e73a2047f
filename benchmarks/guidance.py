"""Time and memory of a guided step: `python -m benchmarks.guidance [CUTOUTS ...]`.

A small random Stable Diffusion (latents of 32 x 32, images of 256 pixels) is guided by a small
random CLIP, with 1, 4, 16 and 64 cutouts: by `guided_pipeline`, with at most 64 and with at most 4
cutouts at a time, and as the community pipeline of diffusers does. Each contender runs in a process
of its own with one thread, which also tells the peak of memory above what it began with.
"""

import json
import statistics
import sys

from benchmarks.peaks import Cost, measure_cost
from benchmarks.timing import machine

STEPS, RUNS = 3, 3  # steps of a run, and runs of each contender
_PREPARE = """
import warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
from benchmarks.guidance_peers import *
run = {contender}
"""
CONTENDERS = {
    "ecliptic": "ours({cutouts}, 64)",
    "ecliptic, 4 at a time": "ours({cutouts}, 4)",
    "ecliptic, linear decode": 'ours({cutouts}, 4, decode="linear")',
    'ecliptic, through="x0"': 'ours({cutouts}, 4, through="x0")',
    "community pipeline": "community({cutouts})",
}


def measure(contender: str) -> Cost:
    """The cost of runs; the first one warms up and only its memory counts."""
    cost = measure_cost(_PREPARE.format(contender=contender), RUNS + 1)
    return Cost(cost.seconds[1:], cost.memory)


def describe(name: str, cost: Cost) -> list[float]:
    """Print a line, and return the median of the seconds of a step and the MiB."""
    each = [seconds / STEPS for seconds in cost.seconds]
    middle = statistics.median(each)
    print(
        f"  {name:26} {middle:7.3f} s a step ({min(each):.3f} to {max(each):.3f}), "
        f"{cost.memory:5.0f} MiB",
        flush=True,
    )
    return [round(middle, 4), round(cost.memory)]


def main() -> None:
    """Print seconds and memory for each number of cutouts."""
    counts = [int(argument) for argument in sys.argv[1:]] or [1, 4, 16, 64]
    print(f"a guided step of a small Stable Diffusion on {machine()}, one thread")
    found = {"no guidance": {"0": describe("no guidance", measure("unguided()"))}}
    for count in counts:
        print(f" {count} cutouts")
        for name, contender in CONTENDERS.items():
            cost = measure(contender.format(cutouts=count))
            found.setdefault(name, {})[str(count)] = describe(name, cost)
    print(json.dumps({"bench": "guidance", "unit": "s a step, MiB", "cutouts": found}))


if __name__ == "__main__":
    main()
