"""Teach a text encoder the names of images: python examples/finetune_text_encoder.py [FOLDER].

The names of the files are the captions. The image tower stays as it is, and so do the early layers
of the text encoder, so vectors of images that are stored anywhere stay right. Prints which name the
model gives each image before and after; the tuned model is in runs/tuned.
"""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import ecliptic
from ecliptic.train import (
    DataSettings,
    OptimSettings,
    TableConfig,
    TowerSettings,
    TrainSettings,
    train,
)


def finetune_clip_text_encoder(
    start: str, table: Path, out: Path, *, freeze_layers: int = 10, steps: int = 15, batch: int = 32
) -> None:
    """Train the late layers of a text encoder on a table of images and captions."""
    settings = TrainSettings(
        start=start,
        trains="text",
        steps=steps,
        precision="fp32",
        text=TowerSettings(freeze_layers=freeze_layers),
        data=DataSettings(sources=(TableConfig(table.resolve()),), batch=batch),
        optim=OptimSettings(rate=1e-4, warmup=steps // 5),
    )
    train(settings, out, overwrite=True)


def guess(model: str, images: list[Path], labels: list[str]) -> list[str]:
    """The label that a model gives each image."""
    clip = ecliptic.load(model)
    cosines = clip.encode_image(images) @ clip.encode_text(labels).T
    return [labels[int(row.argmax())] for row in cosines]


folder = sys.argv[1] if len(sys.argv) > 1 else "src/ecliptic/report/drawings"
paths = sorted(path for path in Path(folder).glob("*") if path.is_file())
if not paths:
    sys.exit(f"{folder} has no files; name a folder with images.")
encoded = ecliptic.load("mini").encode_image(paths, on_error="reject")
images = [paths[place] for place in encoded.kept]
if not images:
    sys.exit(f"{folder} has no images; name a folder that has some.")

names = [path.stem.replace("-", " ") for path in images]
with TemporaryDirectory() as place:
    table = Path(place, "captions.csv")
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = zip([path.resolve() for path in images], names, strict=True)
        csv.writer(file).writerows([("image", "caption"), *rows])
    size = min(32, len(images))
    finetune_clip_text_encoder("mini", table, Path("runs/tuned"), freeze_layers=2, batch=size)

before, after = guess("mini", images, names), guess("runs/tuned", images, names)
for path, name, first, second in zip(images, names, before, after, strict=True):
    mark = "" if second == name else "  (wrong)"
    print(f"{path.name:20} {first:16} -> {second}{mark}")
