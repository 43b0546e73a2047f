"""Peak memory of loading a ViT-B/32 (fp32): `python -m benchmarks.memory`.

A new interpreter per contender imports torch, notes its peak resident memory, loads the same
weights from safetensors, reads every weight once (mapped files count only when touched), and
notes the peak again. The result is in units of the weights' own size. Linux only: getrusage
inherits the parent's peak, so the kernel's own count of the process is read.
"""

import json
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.models import written
from benchmarks.starts import scripts
from benchmarks.timing import machine

_MEASURE = """
import torch
torch.ones(64, 64) @ torch.ones(64, 64)

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

before = peak()
{source}
loaded = load()
model = getattr(loaded, "model", loaded[0] if isinstance(loaded, tuple) else loaded)
with torch.inference_mode():
    size = sum(p.nbytes for p in model.parameters())
    for p in model.parameters():
        p.sum()
load_peak = peak() - before
first(loaded)
print(load_peak / size, (peak() - before) / size, flush=True)
"""


def peaks(source: str) -> tuple[float, float]:
    """Peak after loading, and after the first text, in units of the weights' size."""
    found = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(source=source)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, used = found.stdout.split()[-2:]
    return float(loaded), float(used)


def main() -> None:
    """Print each contender's peaks; the numbers hardly vary, so once is enough."""
    found: Mapping[str, tuple[float, float]] = {n: peaks(s) for n, s in scripts().items()}
    weights = (written("ViT-B-32", "ecliptic") / "model.safetensors").stat().st_size
    print(f"peak memory over an imported torch, weights of {weights / 1e6:.0f} MB, {machine()}")
    for name, (loaded, used) in found.items():
        print(f"  {name:16} loading {loaded:.2f} x the weights, after a first text {used:.2f} x")
    times = {name: [round(value, 3) for value in values] for name, values in found.items()}
    print(json.dumps({"bench": "memory", "unit": "x weights", "peaks": times}))


if __name__ == "__main__":
    main()
