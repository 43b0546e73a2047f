"""Large images take a stated number of bytes per pixel, in all threads together."""

import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, features

import ecliptic.inputs.flattening as flattening
from ecliptic.inputs.decode import PLAIN, count_cost
from ecliptic.inputs.flattening import flatten
from ecliptic.inputs.pool import PixelBudget
from tests.inputs.drawn_images import encode, noise, tiled_tiff

MODES = ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "PA", "RGBa", "La")
SIZE = 3000  # pixels along an edge
PEAK = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ecliptic.inputs import ImageSpec, Preprocess, pool
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
path, workers = sys.argv[1], int(sys.argv[2])
pool.budget.pixels = pool.budget._free = {budget}
prepare = Preprocess(ImageSpec(), mode="robust", icc="srgb")
prepare(Path(sys.argv[3]))
before = peak()
with ThreadPoolExecutor(workers) as threads:
    list(threads.map(prepare, [path] * 2 * workers))
print((peak() - before) / {size} ** 2)
"""


def deep(mode: str, height: int, width: int) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 60_000, (height, width))
    if mode == "F":
        return Image.fromarray(values.astype(np.float32) - 1000)
    image = Image.fromarray(values.astype(np.int32 if mode == "I" else np.uint16))
    image.info["transparency"] = int(values[0, 0])
    return image


def drawn(mode: str, height: int, width: int) -> Image.Image:
    if mode in ("I", "F", "I;16"):
        return deep(mode, height, width)
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), noise(height, width).tobytes())
    image = Image.fromarray(noise(height, width, 4))
    steps = {"La": ("LA", "La"), "PA": ("P", "PA"), "YCbCr": ("RGB", "YCbCr")}.get(mode, (mode,))
    for step in steps:
        image = image.convert("RGB" if step in ("P", "CMYK", "HSV") else image.mode).convert(step)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    return image


@pytest.mark.parametrize("mode", [*MODES, "I", "F", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_b6_strips_give_the_pixels_of_the_whole(
    mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = drawn(mode, 37, 23)
    image.getexif()[0x0112] = orientation
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    srgb = mode == "RGB"
    whole = flatten(image, (10, 200, 30), srgb=srgb)
    monkeypatch.setattr(flattening, "_STRIP", 50)
    in_strips = flatten(image, (10, 200, 30), srgb=srgb)
    assert whole.mode == in_strips.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(whole), np.asarray(in_strips))


def bytes_per_pixel(
    image: Image.Image, folder: Path, workers: int, suffix: str = ".png", **options: Any
) -> float:
    path, warm = folder / f"large{suffix}", folder / "small.png"
    image.save(path, **options)
    Image.fromarray(noise(300, 300).astype(np.uint8)).save(warm)
    code = PEAK.replace("{budget}", str(image.width**2)).replace("{size}", str(image.width))
    words = [sys.executable, "-c", code, path, str(workers), warm]
    done = subprocess.run(words, capture_output=True, check=True, timeout=120)
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "mode", ["I;16", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("RGBA", "P", "LA"))]
)
def test_b6_b9_a_large_image_takes_few_bytes_per_pixel_in_any_number_of_threads(
    mode: str, tmp_path: Path
) -> None:
    image = Image.new(mode, (SIZE, SIZE), (3 if mode in ("P", "I;16") else None) or 0)
    if mode == "P":
        image.info["transparency"] = 3
    assert bytes_per_pixel(image, tmp_path, workers=3) < 14


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        (".webp", "RGB"),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in [(".jpg", "RGB"), (".jpg", "CMYK"), (".avif", "RGB"), (".tif", "RGBA")]
        ),
    ],
)
def test_b6_b9_what_a_decoder_holds_is_counted(suffix: str, mode: str, tmp_path: Path) -> None:
    size = {".tif": 5000}.get(suffix, SIZE)  # large beside the buffers of its products
    options: dict[str, dict[str, Any]] = {
        ".webp": {"lossless": True},
        ".jpg": {"progressive": True, "subsampling": 0},
        ".avif": {"subsampling": "4:4:4", "speed": 10},
        ".tif": {"compression": "tiff_adobe_deflate", "tiffinfo": {278: size}},
    }
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    image = Image.new(mode, (size, size), 3)
    each = bytes_per_pixel(image, tmp_path, 3, suffix, **options[suffix])
    with Image.open(tmp_path / f"large{suffix}") as lazy:
        assert each < count_cost(lazy) / size**2 * PLAIN + 1
    assert each < 18


def test_b9_heavy_formats_take_a_larger_share() -> None:
    image = Image.new("RGB", (90, 70))
    assert count_cost(image) == 6300
    for layout, cost in {"PNG": 6300, "JPEG": 7000, "WEBP": 11_900, "TIFF": 6300}.items():
        assert count_cost(Image.open(io.BytesIO(encode(image, layout)))) == cost
    assert count_cost(Image.open(io.BytesIO(encode(image.convert("CMYK"), "JPEG")))) == 10_500
    tiled = Image.open(io.BytesIO(tiled_tiff(16, 16, 512)))
    assert count_cost(tiled) == (16 * 16 * 4 + 512 * 512 * 3) // 9


def test_threads_wait_for_their_share_and_none_waits_for_ever() -> None:
    budget, held, most, lock = PixelBudget(10), 0, 0, threading.Lock()

    def work(pixels: int) -> None:
        nonlocal held, most
        with budget.take(pixels):
            with lock:
                held += min(pixels, 10)
                most = max(most, held)
            time.sleep(0.002)
            with lock:
                held -= min(pixels, 10)

    threads = [threading.Thread(target=work, args=(n,)) for n in [3, 4, 9, 25, 1, 6, 10] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert 0 < most <= 10


def test_a_failed_image_gives_its_share_back() -> None:
    budget = PixelBudget(10)
    with pytest.raises(ValueError, match="damaged"), budget.take(10):
        raise ValueError("damaged")
    with budget.take(10):
        pass
