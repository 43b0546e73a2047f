"""Process start -> one classified image, ViT-B/32: `python -m benchmarks.cold_start`.

Each contender starts in a new interpreter, loads the same weights from safetensors and classifies
one image file with three texts. "import torch" is a part of each. The files are in the page cache.
Also the peak memory of each process, from Linux.
"""

import json
import subprocess
import sys
import time

from benchmarks.starts import environment, scripts
from benchmarks.timing import report_seconds

_PRINT = """
print([round(float(chance), 4) for chance in first(load()).flatten()], flush=True)
"""
_PEAK = """
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM")))
"""


def time_start(source: str) -> tuple[float, str, int]:
    """Seconds from the start of the interpreter to its first line, that line, and peak MB."""
    start = time.perf_counter()
    command, env = [sys.executable, "-c", source + _PEAK], environment()
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=quiet, env=env) as process:
        assert process.stdout
        line = process.stdout.readline()
        taken = time.perf_counter() - start
        peak = process.stdout.readline()
    if process.returncode or not line:
        raise SystemExit(f"a contender failed; run it alone to see why:\n{source}")
    return taken, line.decode().strip(), int(peak)


def main(repeats: int) -> None:
    """Print the seconds of each contender, after one start of each per round, and the peaks."""
    sources = {name: source + _PRINT for name, source in scripts().items()}
    sources["import torch"] = "import torch\nprint(torch.__version__, flush=True)\n"
    taken: dict[str, list[float]] = {name: [] for name in sources}
    peaks: dict[str, int] = {}
    for turn in range(repeats + 1):
        for name, source in sources.items():
            seconds, said, peaks[name] = time_start(source)
            if turn:  # the first round fills the page cache and compiles modules
                taken[name].append(seconds)
            else:
                print(f"  {name}: {said}")
    report_seconds("cold_start", taken)
    print(f"  peak memory of the process, MB: {json.dumps(peaks)}")
    print(json.dumps({"bench": "cold_start_memory", "unit": "MB", "peaks": peaks}))


if __name__ == "__main__":
    main(repeats=5)
