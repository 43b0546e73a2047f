"""Streamed losses beside autograd over the whole matrix: `python -m benchmarks.losses [ROWS ...]`.

Forward and backward of random unit vectors of 512 numbers in float32, each contender in a process
of its own, which also tells the peak of memory above the inputs. Without arguments 8,192 rows, and
32,768, where the whole matrix is left out: it would need four times 4.3 GB and more.
"""

import json
import statistics
import sys

from benchmarks.peaks import Cost, measure_cost
from benchmarks.timing import machine

MOST_WHOLE = 12_000  # rows of a matrix that is held as a whole
ROUNDS, REPEATS = 2, 3  # processes of each contender, in turns, and calls in each

_PREPARE = """
import torch
import torch.nn.functional as F
from ecliptic.train.losses import InfoNCE, SigLip

def unit():
    return F.normalize(torch.randn({rows}, 512), dim=-1).requires_grad_()

torch.manual_seed(0)
image, text, scale = unit(), unit(), torch.tensor(4.0, requires_grad=True)
bias = torch.tensor(-10.0, requires_grad=True)
labels = torch.arange({rows})

def whole():
    z = scale.exp() * image @ text.T
    return (F.cross_entropy(z, labels) + F.cross_entropy(z.T, labels)) / 2

def run(number):
    {loss}.backward()
    image.grad = text.grad = None
"""
CONTENDERS = {
    "InfoNCE": "InfoNCE()(image, text, scale)",
    "SigLip": "SigLip()(image, text, scale, bias=bias)",
    "whole matrix": "whole()",
}


def measure(rows: int) -> dict[str, Cost]:
    """The cost of each contender that fits."""
    names = [name for name in CONTENDERS if rows <= MOST_WHOLE or name != "whole matrix"]
    found: dict[str, list[Cost]] = {name: [] for name in names}
    rounds, repeats = (ROUNDS, REPEATS) if rows <= MOST_WHOLE else (1, 1)
    for _ in range(rounds):
        for name in names:
            prepare = _PREPARE.format(rows=rows, loss=CONTENDERS[name])
            found[name].append(measure_cost(prepare, repeats))
    return {
        name: Cost([s for c in costs for s in c.seconds], max(c.memory for c in costs))
        for name, costs in found.items()
    }


def main() -> None:
    """Print seconds and memory for each number of rows."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [8192, 32768]
    print(f"losses, forward and backward, on {machine()}")
    found: dict[str, dict[str, list[float]]] = {}
    for rows in sizes:
        costs = measure(rows)
        for name, cost in costs.items():
            middle = statistics.median(cost.seconds)
            low, high = min(cost.seconds), max(cost.seconds)
            print(
                f"  {rows:6} rows, {name:14} {middle:8.2f} s ({low:.2f} to {high:.2f}), "
                f"{cost.memory:6.0f} MiB above the inputs"
            )
        found[str(rows)] = {
            name: [round(statistics.median(cost.seconds), 3), round(cost.memory)]
            for name, cost in costs.items()
        }
    print(json.dumps({"bench": "losses", "unit": "s, MiB", "rows": found}))


if __name__ == "__main__":
    main()
