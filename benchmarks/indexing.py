"""Filling a library beside embedding alone: `python -m benchmarks.indexing [PICTURES] [MODEL]`.

Photographs of 1024 x 768 (JPEG, quality 85) and drawings of 96 x 96 (PNG), made here. In turns:
`encode_image` of the files, which stores nothing; a new library of them, with contents hashed,
facts, thumbnails and synced commits; and a second run, which finds nothing to do. The model is
`mini` unless another is named; a larger one hides the rest. Also the peak memory of the process.
"""

import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import ecliptic
from benchmarks.timing import machine, measure_in_turns, print_rates
from ecliptic.engine import Clip

PICTURES, ROUNDS = 400, 5
KINDS = {"photographs": ((1024, 768), ".jpg"), "drawings": ((96, 96), ".png")}


def main() -> None:
    """Measure both kinds of pictures, print rates and ratios, then one JSON line."""
    words = sys.argv[1:]
    count = int(words[0]) if words else PICTURES
    clip = ecliptic.load(words[1] if len(words) > 1 else "mini")
    line: dict[str, object] = {"bench": "indexing", "machine": machine(), "unit": "pictures/s"}
    with tempfile.TemporaryDirectory() as place:
        for kind, (size, suffix) in KINDS.items():
            folder = Path(place) / kind
            draw(folder, count, size, suffix)
            seconds = measure_in_turns(contenders(clip, folder), ROUNDS, warmup=1)
            line[kind] = print_rates(f"indexing, {kind}", seconds, count, "pictures", "index")
    line["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(line))


def contenders(clip: Clip, folder: Path) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    paths = sorted(map(str, folder.iterdir()))
    library = folder.with_suffix(".library")

    def index() -> None:
        shutil.rmtree(library, ignore_errors=True)
        with ecliptic.Library.create(library, clip) as made:
            made.add(folder)

    def again() -> None:
        with ecliptic.Library.open(library, clip) as opened:
            opened.add(folder)

    return {
        "embedding alone": lambda: clip.encode_image(paths),
        "index": index,
        "index again, unchanged": again,
    }


def draw(folder: Path, count: int, size: tuple[int, int], suffix: str) -> None:
    """Save smooth random pictures with some noise."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        noise = generator.normal(0, 6, (size[1], size[0], 3))
        pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}{suffix}", quality=85)


if __name__ == "__main__":
    main()
