"""Peak memory of loading a ViT-B/32 (fp32): `python -m benchmarks.memory`.

A new interpreter per contender imports torch, notes its peak resident memory, loads the same
weights from safetensors, reads every weight once (pages of a mapped file count only when read) and
notes the peak again. The result is divided by the size of the weights. Linux only: the peak of
getrusage includes that of the parent process, so VmHWM of the kernel is read.
"""

import json
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.models import make_checkpoint
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


def measure_peaks(source: str) -> tuple[float, float]:
    """Peak after loading and peak after the first image, divided by the size of the weights."""
    found = subprocess.run(
        [sys.executable, "-c", _MEASURE.format(source=source)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, used = found.stdout.split()[-2:]
    return float(loaded), float(used)


def main() -> None:
    """Print the peaks of each contender; they hardly vary, so one measurement is enough."""
    found: Mapping[str, tuple[float, float]] = {n: measure_peaks(s) for n, s in scripts().items()}
    weights = (make_checkpoint("ViT-B-32", "ecliptic") / "model.safetensors").stat().st_size
    print(f"peak memory above that of import torch, weights {weights / 1e6:.0f} MB, {machine()}")
    for name, (loaded, used) in found.items():
        print(f"  {name:16} loading {loaded:.2f} x the weights, after the first image {used:.2f} x")
    peaks = {name: [round(value, 3) for value in values] for name, values in found.items()}
    print(json.dumps({"bench": "memory", "unit": "x weights", "peaks": peaks}))


if __name__ == "__main__":
    main()
