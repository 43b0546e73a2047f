"""A training set's captions into a cache, at SDXL's released sizes: `python -m benchmarks.caching`.

Speed: CLIP-L and bigG text towers with random weights, float32. `write_cache` into a new folder is
compared with the conditioner alone, in turns, on the same captions; then all of them are read back.
Memory: the peaks, told by the kernel, of new processes that store 3,000 and 300,000 captions. It
must not depend on their number, so a stand-in for the encoders is enough: it gives each prompt the
same 2 kB. Linux only. `--tiny` is a check with tiny encoders and fewer captions.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.conditioning import load_ours
from benchmarks.models import captions
from benchmarks.timing import machine, measure, measure_in_turns, report
from ecliptic.diffusion import Caption, ConditionCache, StoredConditioning, write_cache

COUNTS = (3_000, 300_000)  # captions of which the memory is measured


class StandIn:
    """Gives every prompt the same tensors at once, and keeps nothing."""

    made = StoredConditioning(torch.ones(1, 7, 64), torch.ones(1, 64))

    def identity(self, **options: Any) -> dict[str, Any]:
        """The settings; there are none."""
        return {"family": "stand-in", **options}

    def each(self, prompts: Sequence[str], **_: Any) -> list[StoredConditioning]:
        """The same conditioning for each prompt."""
        return [self.made] * len(prompts)


def rows(count: int) -> Iterator[Caption]:
    """Captions that differ, one by one."""
    for number in range(count):
        yield Caption(f"{number:07d}.png", f"a photo of thing number {number} on a sunny day")


def store(some: list[Caption], folder: Path, tiny: bool) -> None:
    """Write a new cache with SDXL's encoders."""
    shutil.rmtree(folder, ignore_errors=True)
    assert write_cache(load_ours(tiny), some, folder).written == len(some)


def read_all(some: list[Caption], folder: Path) -> None:
    """Read every caption once."""
    with ConditionCache(folder) as cache:
        for caption in some:
            cache.load(caption.id)


def measure_peak(count: int) -> tuple[float, float]:
    """Peak memory in MB and seconds of a new process that stores `count` captions."""
    command = [sys.executable, "-m", "benchmarks.caching", f"--count={count}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, seconds = ran.stdout.split()[-2:]
    return float(peak), float(seconds)


def run_one_count(count: int) -> None:
    """Store `count` captions; print the peak memory of this process in MB, and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        assert write_cache(StandIn(), rows(count), folder).written == count
        seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM"))
    print(peak, seconds)


def main(tiny: bool) -> None:
    """Print speed and memory."""
    some = [Caption(f"{n}.png", text) for n, text in enumerate(captions(8 if tiny else 32))]
    prompts = [caption.text for caption in some]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "cache"
        runs = {
            "write_cache": lambda: store(some, folder, tiny),
            "conditioner alone": lambda: [
                load_ours(tiny).each(prompts[start : start + 32])
                for start in range(0, len(prompts), 32)
            ],
        }
        taken = measure_in_turns(runs, repeats=3, warmup=0 if not tiny else 1)
        report("caching_write", taken, len(some), "captions", "write_cache")
        taken = {"load": measure(lambda: read_all(some, folder), repeats=5, warmup=1)}
        report("caching_read", taken, len(some), "captions", "load")
    counts = [count // 100 for count in COUNTS] if tiny else list(COUNTS)
    found = {f"{count}": measure_peak(count) for count in counts}
    for count, (peak, seconds) in found.items():
        print(f"  {count:>7} captions: peak {peak:.0f} MB, {float(count) / seconds:.0f} captions/s")
    peaks = {count: round(peak) for count, (peak, _) in found.items()}
    line = {"bench": "caching_memory", "unit": "MB", "machine": machine(), "peaks": peaks}
    print(json.dumps(line))


if __name__ == "__main__":
    chosen = [word.removeprefix("--count=") for word in sys.argv if word.startswith("--count=")]
    if chosen:
        run_one_count(int(chosen[0]))
    else:
        main("--tiny" in sys.argv)
