"""Images -> pixels, against open_clip and transformers: `python -m benchmarks.preprocess`.

Every contender gets the same encoded files and makes (3, 224, 224) float32 on one core; the
decode pool is timed separately. The default images are photographs in ../shared; or pass files.
The photograph of 12 megapixels is one of them, enlarged, with the noise of a camera. Seconds of a
contender are those of its thread, so that other work on the machine counts for less.
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import measure_in_turns, report
from ecliptic.inputs import ImageSpec, Preprocess, decode_many
from ecliptic.inputs.decode import find_jpeg_decoder
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
LARGE = (4000, 3000)  # pixels
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


def large_jpeg(path: Path) -> bytes:
    """An encoded photograph of 12 megapixels: detail of the file at `path`, noise of a camera."""
    with Image.open(path) as image:
        large = image.convert("RGB").resize(LARGE, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 4, (LARGE[1], LARGE[0], 3))
    encoded = io.BytesIO()
    values = (np.asarray(large) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(values).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def compare_large(data: bytes, repeats: int) -> None:
    """Time every kind of pixels of one large JPEG beside open_clip, in seconds of one thread."""
    theirs = peers.open_clip().transform.image_transform(224, is_train=False)

    def prepare_theirs() -> np.ndarray:
        with Image.open(io.BytesIO(data)) as image:
            return theirs(image).numpy()

    ours = {name: Preprocess(ImageSpec(), pixels=name) for name in ("exact", "close", "fast")}  # type: ignore[arg-type]
    exact, std = prepare_theirs(), np.array(ImageSpec().std)[:, None, None]
    for name, prepare in ours.items():
        error = np.abs(prepare(data) - exact) * std * 255
        print(
            f"  {name}: error of {error.mean():.3f} levels in the mean, {error.max():.1f} at most"
        )
    assert ours["exact"](data).tobytes() == exact.tobytes()
    fns = {"open_clip": prepare_theirs}
    fns |= {name: lambda prepare=prepare: prepare(data) for name, prepare in ours.items()}
    fns |= _decoders(data)
    seconds: dict[str, list[float]] = {name: [] for name in fns}
    everything = decode_many(range(repeats + 2), lambda _: _time_each(fns), workers=1)
    for turn, found in everything:  # in one thread of a pool, as a folder of images
        for name, taken in found.items() if turn >= 2 else ():
            seconds[name].append(taken)
    with_turbo = "with" if find_jpeg_decoder() else "without"
    report(f"preprocess_12_megapixels {with_turbo} simplejpeg", seconds, 1, "images", "open_clip")


def _decoders(data: bytes) -> dict[str, Callable[[], object]]:
    """The decoder alone, at the sizes that `close` and `fast` ask for; none without simplejpeg."""
    if not find_jpeg_decoder():
        return {}
    from simplejpeg import decode_jpeg

    sides = {"at full size": LARGE, "at an eighth": (LARGE[0] // 8, LARGE[1] // 8)}
    return {
        f"the decoder alone, {name}": lambda width=width, height=height: decode_jpeg(
            data, min_width=width, min_height=height, min_factor=1
        )
        for name, (width, height) in sides.items()
    }


def _time_each(fns: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken = {}
    for name, fn in fns.items():
        start = time.thread_time()
        fn()
        taken[name] = time.thread_time() - start
    return taken


def main(paths: list[Path]) -> None:
    """Print the rates of decoding and preparing, of preparing alone, and of the pool."""
    torch.set_num_threads(1)
    compare_large(large_jpeg(paths[0]), 15)
    files = [path.read_bytes() for path in paths]
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
    prepares = contenders()
    ours, theirs = prepares["ecliptic"](images[0]), prepares["open_clip"](images[0])
    assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
    from_bytes = {name: prepare_files(prepare, files) for name, prepare in prepares.items()}
    for name in ("close", "fast"):
        near = Preprocess(ImageSpec(), pixels=name)  # type: ignore[arg-type]
        from_bytes[f"ecliptic {name}"] = lambda near=near: [near(data) for data in files] and None
    report("preprocess_files", measure_in_turns(from_bytes, 15), len(files), "images", "ecliptic")
    decoded = {name: prepare_images(prepare, images) for name, prepare in prepares.items()}
    report("preprocess_images", measure_in_turns(decoded, 25), len(files), "images", "ecliptic")
    pools = {f"{workers} threads": run_pool(files, workers) for workers in (1, 2)}
    report("decode_pool", measure_in_turns(pools, 5), 4 * len(files), "images", "2 threads")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [PHOTOS / name for name in NAMES])
