"""Do decoding threads keep the tower busy? `python -m benchmarks.feeding [ARCH]`.

Embeds JPEGs of 2 megapixels with random weights of a released size, and times decoding alone and
the tower alone beside it. The tower has one thread here, so that the others can decode. Where cores
are fewer than threads, compare the CPU seconds: nothing may be added by doing both at once.
"""

import io
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

import ecliptic
from benchmarks.models import make_checkpoint, sizes
from benchmarks.timing import machine
from ecliptic.engine.images import find_copies
from ecliptic.inputs import Preprocess, decode_many

COUNT = 256  # images, so that the first batch, for which the tower waits, is a small share
SIZE = (1600, 1200)


def draw_photos() -> list[bytes]:
    """Encoded images with detail and noise, each another one."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 4, (SIZE[1], SIZE[0], 3)).astype(np.float32)
    photos = []
    for number in range(COUNT):
        small = Image.fromarray(random.integers(0, 256, (120, 160, 3), dtype=np.uint8))
        values = np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)).astype(np.float32)
        values += np.roll(noise, number * 1009)
        encoded = io.BytesIO()
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(encoded, "JPEG", quality=90)
        photos.append(encoded.getvalue())
    return photos


def time_both(fn: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and CPU seconds of all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    fn()
    return time.perf_counter() - clock, time.process_time() - processor


def main(name: str, repeats: int = 3) -> None:
    """Print the seconds of decoding, of the tower, of both at once, and of finding copies."""
    torch.set_num_threads(1)
    clip = ecliptic.load(make_checkpoint(name, "ecliptic", "image"))
    config = sizes(name, "image").image
    assert config
    photos, prepare = draw_photos(), clip.preprocessor
    assert isinstance(prepare, Preprocess)
    pixels = torch.stack([torch.from_numpy(prepare(photo)) for photo in photos])
    fns = {
        "decoding alone": lambda: [None for _ in decode_many(photos, prepare)],
        "tower alone": lambda: [clip.runtime.image(batch) for batch in pixels.split(32)],
        "both": lambda: clip.encode_image(photos),
        "finding copies": lambda: [
            find_copies(list(batch)) for batch in pixels.numpy().reshape(2, -1, *pixels.shape[1:])
        ],
    }
    taken: dict[str, list[tuple[float, float]]] = {label: [] for label in fns}
    for turn in range(repeats + 1):
        for label, fn in fns.items():
            found = time_both(fn)
            taken[label] += [found] if turn else []
    medians = {}
    print(f"feeding_{name} on {machine()}, {COUNT} JPEGs of {SIZE[0]}x{SIZE[1]}")
    for label, pairs in taken.items():
        clock, processor = (statistics.median(values) for values in zip(*pairs, strict=True))
        medians[label] = [round(clock, 4), round(processor, 4)]
        print(f"  {label:20} {clock:8.3f} s, {processor:8.3f} CPU seconds")
    slower = max(medians["decoding alone"][0], medians["tower alone"][0])
    added = medians["decoding alone"][1] + medians["tower alone"][1]
    ratios = medians["both"][0] / slower, medians["both"][1] / added
    print(f"  both: {ratios[0]:.2f} times the slower; {ratios[1]:.2f} times their CPU seconds")
    print(json.dumps({"bench": f"feeding_{name}", "machine": machine(), "seconds": medians}))


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["ViT-B-32"]))
