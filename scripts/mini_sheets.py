"""Draw sheets of what `mini` answers, right and wrong, for docs/mini.md.

Writes `mini-GROUP.png` for each group of drawings, `mini-photos.png`, and the block of the page
that shows them. DIR holds `emoji/`, and the photographs are in `DIR/../fixtures/photos`.

    python -m scripts.mini_sheets --data DIR [--model MODEL] [--out FOLDER] [--page docs/mini.md]
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

import ecliptic
from benchmarks.emoji import Drawing, Emoji, read_emoji, read_photos
from scripts.blocks import fill_block

DOCS = Path(__file__).parents[1] / "docs"
COUNT, COLUMNS = 12, 4  # drawings of a sheet
WIDTH, HEIGHT, PICTURE, GAP = 220, 104, 80, 8  # pixels of a cell, of its picture, around it
SIZE = 12  # pixels of the letters
LINE = SIZE + 3
INK, RIGHT, WRONG = "#1a1f29", "#0a6b2d", "#b3161b"  # all with a contrast above 5 on white
BEST = 3  # names of a photograph


@dataclass(frozen=True, eq=False)
class Cell:
    """A picture and the lines beside it, each with its colour; a right answer has a tick."""

    image: Image.Image
    lines: tuple[tuple[str, str], ...]  # text, colour
    right: bool | None = None  # None: nothing to be right about


def draw_sheet(cells: Sequence[Cell]) -> Image.Image:
    """All cells in rows of `COLUMNS` on white."""
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (min(len(cells), COLUMNS) * WIDTH, rows * HEIGHT), "white")
    for number, cell in enumerate(cells):
        place = (number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT)
        _draw_cell(sheet, cell, *place)
    return sheet


def _draw_cell(sheet: Image.Image, cell: Cell, left: int, top: int) -> None:
    picture = ImageOps.contain(cell.image, (PICTURE, PICTURE), Image.Resampling.LANCZOS)
    middle = (PICTURE - picture.width) // 2, (PICTURE - picture.height) // 2
    sheet.paste(picture, (left + GAP + middle[0], top + GAP + middle[1]))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(SIZE)
    x, y = left + PICTURE + 3 * GAP, top + GAP
    for text, colour in cell.lines:
        if cell.right is not None and colour != INK:
            _draw_mark(draw, cell.right, x - 13, y + 3)
        for line in wrap(text, font, WIDTH - PICTURE - 4 * GAP):
            draw.text((x, y), line, font=font, fill=colour)
            y += LINE
        y += 3


def _draw_mark(draw: ImageDraw.ImageDraw, right: bool, x: int, y: int) -> None:
    """A tick or a cross, for readers who do not see red and green."""
    if right:
        draw.line([(x, y + 4), (x + 3, y + 8), (x + 9, y)], fill=RIGHT, width=2)
    else:
        draw.line([(x, y), (x + 8, y + 8)], fill=WRONG, width=2)
        draw.line([(x, y + 8), (x + 8, y)], fill=WRONG, width=2)


def wrap(
    text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, most: int = 3
) -> list[str]:
    """Lines of whole words within `width` pixels; the last of `most` may end in three dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]}..."]


def name_drawings(clip: ecliptic.Clip, emoji: Emoji, drawings: Sequence[Drawing]) -> list[Cell]:
    """Each drawing with its own name, and the best of all names in green or red."""
    cosines = clip.similarity(emoji.names, [drawing.image for drawing in drawings])
    cells = []
    for drawing, best in zip(drawings, cosines.argmax(dim=0).tolist(), strict=True):
        right = best == drawing.concept
        answer = (emoji.concepts[best].name, RIGHT if right else WRONG)
        lines = ((emoji.concepts[drawing.concept].name, INK), answer)
        cells.append(Cell(drawing.image, lines, right))
    return cells


def draw_groups(clip: ecliptic.Clip, emoji: Emoji, out: Path) -> list[str]:
    """A sheet of each group, its drawings chosen by lot; returns the lines of the page."""
    drawings = emoji.drawings()
    cells = name_drawings(clip, emoji, drawings)
    groups: dict[str, list[Cell]] = {}
    for drawing, cell in zip(drawings, cells, strict=True):
        groups.setdefault(emoji.concepts[drawing.concept].group, []).append(cell)
    parts = []
    for group, members in sorted(groups.items()):
        chosen = Random(group).sample(members, min(COUNT, len(members)))
        draw_sheet(chosen).save(out / f"mini-{group}.png", optimize=True)
        score = f"{sum(bool(cell.right) for cell in members)} of {len(members)}"
        shown = sum(bool(cell.right) for cell in chosen)
        parts.append(f"**{group}**: {score} drawings get their own name.")
        parts.append(f"![{shown} of {len(chosen)} right](images/mini-{group}.png)")
    return parts


def draw_photos(clip: ecliptic.Clip, emoji: Emoji, photos: Path, out: Path) -> list[str]:
    """A sheet of the photographs with their best names; returns the lines of the page."""
    images = [photo.open() for photo in read_photos(photos)]
    best = clip.similarity(emoji.names, images).topk(BEST, dim=0).indices.T.tolist()
    cells = [
        Cell(image, tuple((emoji.concepts[row].name, INK) for row in rows))
        for image, rows in zip(images, best, strict=True)
    ]
    draw_sheet(cells).save(out / "mini-photos.png", optimize=True)
    return [
        f"**Photographs**, with the best {BEST} of all names.",
        f"![{len(cells)} photographs and what they are taken for](images/mini-photos.png)",
    ]


def main() -> None:
    """Write the sheets, and their links into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, default=DOCS / "images")
    parser.add_argument("--page", type=Path, help="docs/mini.md; links are written only if given")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clip, emoji = ecliptic.load(args.model), read_emoji(args.data)
    parts = draw_groups(clip, emoji, args.out)
    parts += draw_photos(clip, emoji, args.data.parent / "fixtures" / "photos", args.out)
    if args.page:
        fill_block(args.page, "sheets", "\n\n".join(parts))
    print("\n".join(parts))


if __name__ == "__main__":
    main()
