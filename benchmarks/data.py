"""Training data, from files to batches: `python -m benchmarks.data [--workers 0 1 2]`.

Photographs of 256 pixels as JPEG with captions, in tars and in a folder, become batches of 224
pixels with tokens, cropped at random. webdataset reads the same tars with the same decoding if it
is installed; its shuffle buffer is filled before the clock starts. What was prepared ahead while
others had their turn counts, 2 batches a worker of 10. Then the drawings of `mini`,
with their augmentation, if their folder is passed with --drawings.
"""

import argparse
import io
import itertools
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from ecliptic.train.data.tars import open_tars
from PIL import Image

from benchmarks.preprocess import NAMES, PHOTOS
from benchmarks.timing import measure_in_turns, report
from ecliptic.inputs import ImageSpec, Tokenizer, TokenizerSpec
from ecliptic.train import DataSettings, TrainSettings
from ecliptic.train.data import open_data, tokenize
from ecliptic.train.data.augmentations import Crop
from ecliptic.train.settings import DrawingsConfig, FolderConfig, TarsConfig

COUNT, SHARDS, BATCH = 1024, 4, 32
MEASURED = 10  # batches in one measurement
SPEC, TOKENS = ImageSpec(), TokenizerSpec()
Batches = Iterator[Any]


def write_pairs(root: Path) -> None:
    """`COUNT` crops of photographs with captions, in `SHARDS` tars and in a folder."""
    random, photos = Random(0), [Image.open(PHOTOS / name).convert("RGB") for name in NAMES]
    (root / "folder").mkdir()
    for shard in range(SHARDS):
        with tarfile.open(root / f"{shard}.tar", "w") as tar:
            for number in range(shard, COUNT, SHARDS):
                for suffix, data in (("jpg", crop(random, photos)), ("txt", caption(number))):
                    (root / "folder" / f"{number:05}.{suffix}").write_bytes(data)
                    about = tarfile.TarInfo(f"{number:05}.{suffix}")
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))


def crop(random: Random, photos: list[Image.Image]) -> bytes:
    photo = random.choice(photos)
    left, top = (random.randint(0, max(0, size - 256)) for size in photo.size)
    buffer = io.BytesIO()
    photo.crop((left, top, left + 256, top + 256)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def caption(number: int) -> bytes:
    return f"a photograph of things, number {number} of many".encode()


def ours(root: Path, source: Any, workers: int, augment: str = "crop") -> Batches:
    sources = (source,)
    spec = ImageSpec(size=64) if augment == "drawings" else SPEC
    data = DataSettings(
        root=root, sources=sources, batch=BATCH, augment=augment, workers=workers, ahead=2
    )
    opened = open_data(TrainSettings(data=data), spec, Tokenizer(TOKENS))
    return opened.batches.iterate(0, 1_000_000)


def theirs(root: Path, workers: int) -> Batches:
    """webdataset's own pipeline, with the decoding and the tokenizer of ours."""
    import webdataset

    prepare, tokenizer = Crop(SPEC), Tokenizer(TOKENS)
    urls = [str(root / f"{shard}.tar") for shard in range(SHARDS)]
    pairs = webdataset.WebDataset(
        urls, resampled=True, shardshuffle=False, nodesplitter=webdataset.split_by_node
    )
    pairs = pairs.shuffle(512).map(partial(decode, prepare))
    batches = pairs.batched(BATCH, collation_fn=partial(collate, tokenizer), partial=False)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=workers)
    return iter(loader)


def decode(prepare: Crop, sample: dict[str, Any]) -> tuple[Any, str]:
    return prepare.decode(sample["jpg"], hash(sample["__key__"])), sample["txt"].decode()


def collate(tokenizer: Tokenizer, rows: list[tuple[Any, str]]) -> tuple[Any, ...]:
    pictures, texts = zip(*rows, strict=True)
    stacked = torch.from_numpy(np.stack(pictures)).movedim(-1, 1)
    return stacked, *tokenize(tokenizer, texts)


def open_contenders(root: Path, workers: int, drawings: Path | None) -> dict[str, Batches]:
    tars, folder = TarsConfig(f"{{0..{SHARDS - 1}}}.tar"), FolderConfig(Path("folder"))
    found = {"tars": ours(root, tars, workers), "folder": ours(root, folder, workers)}
    try:
        found["webdataset"] = theirs(root, workers)
    except ImportError:
        print("webdataset is not installed")
    if drawings is not None:
        emoji = DrawingsConfig(Path("emoji"), designs=("noto", "twemoji"))
        found["drawings at 64"] = ours(drawings, emoji, workers, "drawings")
    return found


def take(batches: Batches, count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def measure_all(root: Path, workers: int, drawings: Path | None) -> dict[str, list[float]]:
    """Seconds of `MEASURED` batches each, in turns, after those that were prepared ahead."""
    opened = open_contenders(root, workers, drawings)
    for batches in opened.values():
        take(batches, 8)
    turns = {name: partial(_turn, batches) for name, batches in opened.items()}
    found = measure_in_turns(turns, 5, warmup=0)
    for batches in opened.values():
        if (end := getattr(batches, "close", None)) is not None:
            end()
    return found


def _turn(batches: Batches) -> None:
    take(batches, MEASURED)


def main() -> None:
    """Print the rates, and the time to index a tar of many members."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--drawings", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        write_pairs(Path(name))
        for workers in args.workers:
            found = measure_all(Path(name), workers, args.drawings)
            bench = f"training_data, {workers} workers"
            report(bench, found, BATCH * MEASURED, "images", "tars")
        begun = time.perf_counter()
        count = len(open_tars(TarsConfig(f"{{0..{SHARDS - 1}}}.tar"), Path(name)))
        micros = (time.perf_counter() - begun) / (2 * count) * 1e6
    print(f"index: {micros:.1f} us a member")
    print(json.dumps({"bench": "tar_index", "unit": "us", "member": round(micros, 2)}))


if __name__ == "__main__":
    main()
