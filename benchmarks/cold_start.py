"""Process start -> first text vector of a ViT-B/32: `python -m benchmarks.cold_start`.

Each contender starts in a new interpreter, loads the same weights from safetensors and encodes one
text. "import torch" is a part of each. The files are in the page cache.
"""

import subprocess
import sys
import time

from benchmarks.starts import scripts
from benchmarks.timing import report_seconds


def time_start(source: str) -> float:
    """Seconds from the start of the interpreter to the script's first line of output."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        line = process.stdout.readline()
        taken = time.perf_counter() - start
    if process.returncode or not line:
        raise SystemExit(f"a contender failed; run it alone to see why:\n{source}")
    return taken


def main(repeats: int) -> None:
    """Print the seconds of each contender, after one start of each per round."""
    sources = {
        name: f"{source}\nprint(first(load()).shape, flush=True)\n"
        for name, source in scripts().items()
    }
    sources["import torch"] = "import torch\nprint(torch.__version__, flush=True)\n"
    taken: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(repeats + 1):
        for name, source in sources.items():
            seconds = time_start(source)
            if turn:  # the first round fills the page cache
                taken[name].append(seconds)
    report_seconds("cold_start", taken)


if __name__ == "__main__":
    main(repeats=5)
