"""Scores of vectors beside the bandwidth of memory: `python -m benchmarks.judging [PAIRS]`.

CLIPScore of pairs of unit vectors of 512 numbers in float32, 100,000 pairs unless another number is
given, beside one pass over the same bytes: a sum of both arrays, which no score can beat. Then the
report of the same number of scores: mean, median and interval, and a comparison of two systems.
"""

import json
import statistics
import sys
from collections.abc import Callable

import torch

from benchmarks.timing import machine, measure, measure_in_turns
from ecliptic.scoring import bootstrap, clip_score, compare_pairs, pair_cosines

PAIRS, SIZE = 100_000, 512
REPEATS = 7


def _show(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.4f} s ({min(seconds):.4f} to {max(seconds):.4f})"


def main() -> None:
    """Print seconds and bandwidth, and one JSON line."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(pairs, SIZE, generator=generator) for _ in range(2))
    contenders: dict[str, Callable[[], object]] = {
        "one pass": lambda: images.sum() + texts.sum(),
        "ecliptic": lambda: clip_score(images, texts),
        "cosine_similarity": lambda: torch.cosine_similarity(images, texts),
    }
    seconds = measure_in_turns(contenders, REPEATS)
    size = 2 * images.numel() * images.element_size()
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(f"{pairs:,} pairs of {SIZE} numbers on {machine()}")
    for name, taken in seconds.items():
        print(f"  {name:18} {_show(taken)}, {size / medians[name] / 1e9:.1f} GB/s")
    scores = pair_cosines(images, texts)
    other = scores + torch.randn(pairs, generator=generator) / 50
    report = measure(lambda: (bootstrap(scores), scores.median()), 3, 1)
    compared = measure(lambda: compare_pairs(scores, other), 3, 1)
    print(f"  report             {_show(report)}")
    print(f"  comparison         {_show(compared)}")
    line: dict[str, object] = {
        "bench": "judging",
        "unit": "s",
        "machine": machine(),
        "pairs": pairs,
    }
    line["seconds"] = {name: round(median, 5) for name, median in medians.items()}
    line["report"] = round(statistics.median(report), 4)
    line["comparison"] = round(statistics.median(compared), 4)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
