"""Images -> pixels, against open_clip and transformers: `python -m benchmarks.preprocess`.

Every contender gets the same encoded files and makes (3, 224, 224) float32 on one core; the
decode pool is timed separately. The default images are photographs in ../shared; or pass files.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import measure_in_turns, report
from ecliptic.inputs import ImageSpec, Preprocess, decode_many
from tests import peers

PHOTOS = Path(__file__).parents[2] / "shared/fixtures"
NAMES = (
    "photos/kodim03.png",
    "photos/skimage_coffee.png",
    "photos/pillow_flower.jpg",
    "photos/skimage_rocket.jpg",
    "photos/skimage_hubble_deep_field.jpg",
    "exif/Landscape_1.jpg",
)
Prepare = Callable[[Image.Image], object]


def contenders() -> dict[str, Prepare]:
    """Functions from a PIL image to pixels, by name; ours first."""
    open_clip, transformers = peers.open_clip(), peers.transformers()
    fast = transformers.CLIPImageProcessor()
    slow = transformers.CLIPImageProcessorPil()
    return {
        "ecliptic": Preprocess(ImageSpec()),
        "ecliptic robust": Preprocess(ImageSpec(), "robust"),
        "open_clip": open_clip.transform.image_transform(224, is_train=False),
        "transformers torchvision": lambda image: fast(image, return_tensors="pt")["pixel_values"],
        "transformers PIL": lambda image: slow(image, return_tensors="np")["pixel_values"],
    }


def prepare_files(prepare: Prepare, files: list[bytes]) -> Callable[[], None]:
    def run() -> None:
        for data in files:
            with Image.open(io.BytesIO(data)) as image:
                prepare(image)

    return run


def prepare_images(prepare: Prepare, images: list[Image.Image]) -> Callable[[], None]:
    def run() -> None:
        for image in images:
            prepare(image)

    return run


def run_pool(files: list[bytes], workers: int) -> Callable[[], None]:
    prepare = Preprocess(ImageSpec())
    return lambda: [None for _ in decode_many(files * 4, prepare, workers=workers)] and None


def main(paths: list[Path]) -> None:
    """Print the rates of decoding and preparing, of preparing alone, and of the pool."""
    torch.set_num_threads(1)
    files = [path.read_bytes() for path in paths]
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    prepares = contenders()
    ours, theirs = prepares["ecliptic"](images[0]), prepares["open_clip"](images[0])
    assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
    from_bytes = {name: prepare_files(prepare, files) for name, prepare in prepares.items()}
    report("preprocess_files", measure_in_turns(from_bytes, 15), len(files), "images", "ecliptic")
    decoded = {name: prepare_images(prepare, images) for name, prepare in prepares.items()}
    report("preprocess_images", measure_in_turns(decoded, 25), len(files), "images", "ecliptic")
    pools = {f"{workers} threads": run_pool(files, workers) for workers in (1, 2)}
    report("decode_pool", measure_in_turns(pools, 5), 4 * len(files), "images", "2 threads")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [PHOTOS / name for name in NAMES])
