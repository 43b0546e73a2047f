"""Small training data for tests: coloured shapes in the same files and folders."""

import csv
import io
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = ("red", "green", "blue", "orange", "purple", "black", "gold", "teal")
SHAPES = ("circle", "square")
DESIGNS = ("flat", "thin", "unseen")


def draw(colour: str, shape: str, design: str) -> Image.Image:
    """A shape in one of three drawing styles."""
    image = Image.new("RGBA", (96, 96))
    pen = ImageDraw.Draw(image)
    box = {"flat": (14, 14, 82, 82), "thin": (20, 20, 76, 76), "unseen": (10, 16, 80, 86)}[design]
    style = {"outline": colour, "width": 10} if design == "thin" else {"fill": colour}
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, **style)
    return image


def write_data(root: Path) -> Path:
    """emoji/, openclipart/ and game_icons/ under `root`."""
    concepts = [(c, s) for c in COLOURS for s in SHAPES]
    emoji = root / "emoji"
    rows = [
        {
            "key": f"{i:x}",
            "name": f"{colour} {shape}",
            "keywords": f"{colour}|{shape}|{'round' if shape == 'circle' else 'sides'}",
            "concept_split": "val" if i == 3 else "train",
        }
        for i, (colour, shape) in enumerate(concepts)
    ]
    _csv(emoji / "emoji.csv", rows)
    for design in ("noto", *DESIGNS):
        drawings = {f"{i:x}": draw(c, s, design.replace("noto", "flat"))
                    for i, (c, s) in enumerate(concepts)}  # fmt: skip
        _tar(emoji / f"{design}.tar", drawings)
    titles = ["Various", "Various", "Various", "A teal circle"]
    clipart = [
        {"file": f"c{i}.png", "title": t, "stem": f"stem {i}", "keywords": "x", "category": "a_b"}
        for i, t in enumerate(titles)
    ]
    _csv(root / "openclipart" / "openclipart.csv", clipart)
    _tar(root / "openclipart" / "openclipart.tar",
         {f"c{i}": draw("teal", "circle", "flat") for i in range(4)})  # fmt: skip
    icons = [{"file": f"i{i}.png", "name": n} for i, n in enumerate(["sword", "abstract-01"])]
    _csv(root / "game_icons" / "game_icons.csv", icons)
    _tar(root / "game_icons" / "game_icons.tar",
         {f"i{i}": draw("white", "square", "flat").convert("L") for i in range(2)})  # fmt: skip
    return root


def _csv(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _tar(path: Path, drawings: dict[str, Image.Image]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, image in drawings.items():
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            member = tarfile.TarInfo(f"{name}.png")
            member.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(member, buffer)
