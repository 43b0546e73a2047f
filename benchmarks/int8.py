"""int8 beside float32 and open_clip: `python -m benchmarks.int8 [ARCH] [--min-cosine X]`.

Images from pixels and captions, one call each in turns; the model has random weights. Prints the
cosines with float32 that the calibration found, and how many layers it kept.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import ecliptic
from benchmarks.image import load_open_clip
from benchmarks.models import captions, make_checkpoint
from benchmarks.text import load_open_clip as open_clip_text
from benchmarks.timing import measure_in_turns, report

BATCHES, TEXTS = (1, 8, 32), (1, 32)


def main() -> None:
    """Print seconds of the calibration, agreement, and rates of each contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arch", nargs="?", default="ViT-B-32")
    parser.add_argument("--min-cosine", type=float, default=0.9998)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="of images")
    args = parser.parse_args()
    path = make_checkpoint(args.arch, "ecliptic")
    plain = ecliptic.load(path, precision="fp32")
    plain.runtime.choose()
    start = time.process_time()
    int8 = ecliptic.load(path, precision="int8", min_cosine=args.min_cosine)
    print(f"calibrated in {time.process_time() - start:.0f} s of CPU time")
    assert int8.card.quantisation
    found = int8.card.quantisation.report
    for tower in found.towers:
        kept = sum(name.startswith(tower.tower) for name in found.kept)
        print(f"  {tower}, {kept} layers in fp32")
    measure_images(args.arch, plain, int8, args.batches, args.repeats)
    measure_texts(args.arch, plain, int8, args.repeats)


def measure_texts(arch: str, plain: ecliptic.Clip, int8: ecliptic.Clip, repeats: int) -> None:
    """Print the captions per second of int8, of float32 and of open_clip."""
    encoders = {
        "int8": int8.encode_text,
        "fp32": plain.encode_text,
        "open_clip": open_clip_text(arch),
    }
    for batch in TEXTS:
        texts = captions(batch)
        fed = {
            name: lambda encode=encode, given=texts: encode(given)
            for name, encode in encoders.items()
        }
        seconds = measure_in_turns(fed, repeats, settle=10 // batch + 1)
        report(f"int8_text_{arch}_batch_{batch}", seconds, batch, "captions", "int8")


def measure_images(
    arch: str, plain: ecliptic.Clip, int8: ecliptic.Clip, batches: Sequence[int], repeats: int
) -> None:
    """Print the images per second of int8, of float32 and of open_clip."""
    size = plain.preprocessor.spec.size
    pixels = torch.randn(max(batches), 3, size, size)
    encoders: dict[str, Callable[[Tensor], object]] = {
        "int8": int8.encode_image,
        "fp32": plain.encode_image,
        "open_clip": load_open_clip(arch),
    }
    with torch.inference_mode():
        for batch in batches:
            fed = {
                name: lambda encode=encode, some=pixels[:batch]: encode(some)
                for name, encode in encoders.items()
            }
            seconds = measure_in_turns(fed, repeats)
            report(f"int8_image_{arch}_batch_{batch}", seconds, batch, "images", "int8")


if __name__ == "__main__":
    main()
