"""Reading the emoji drawings and the photographs that `mini` is measured on.

A folder of data holds `emoji/emoji.csv`, a table of concepts, and `emoji/DESIGN.tar`, with
`KEY.png` for each concept that the design has. Photographs have a table `captions.csv`.
"""

import csv
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

DESIGN = "fxemoji"  # the design that is never trained on
DESIGNS = (
    "noto",
    "blobmoji",
    "twemoji",
    "emojione2",
    "fluent_3d",
    "fluent_flat",
    "fluent_high_contrast",
    DESIGN,
)


@dataclass(frozen=True)
class Concept:
    """One row of `emoji.csv`."""

    key: str
    name: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    unseen: bool  # held out: no emoji or icon of it is trained on


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture of a concept, on white."""

    concept: int  # its row
    image: Image.Image


@dataclass(frozen=True)
class Emoji:
    """The table of concepts, and where their drawings are."""

    folder: Path
    concepts: tuple[Concept, ...]

    @property
    def names(self) -> list[str]:
        """The name of every concept, in the order of the rows."""
        return [concept.name for concept in self.concepts]

    def drawings(self, design: str = DESIGN) -> list[Drawing]:
        """All drawings of a design, in the order of its tar, on white."""
        row = {concept.key: number for number, concept in enumerate(self.concepts)}
        found = []
        with tarfile.open(self.folder / f"{design}.tar") as tar:
            for member in tar:
                if (data := tar.extractfile(member)) is not None:
                    image = put_on_white(Image.open(io.BytesIO(data.read())))
                    found.append(Drawing(row[Path(member.name).stem], image))
        return found


@dataclass(frozen=True)
class Photo:
    """A photograph and what it shows."""

    path: Path
    caption: str

    def open(self) -> Image.Image:
        """Its picture, on white where it is transparent."""
        with Image.open(self.path) as image:
            return put_on_white(image)


def read_emoji(data: Path) -> Emoji:
    """The emoji of a folder of data."""
    with (data / "emoji" / "emoji.csv").open(newline="", encoding="utf-8") as file:
        concepts = tuple(_read_concept(row) for row in csv.DictReader(file))
    return Emoji(data / "emoji", concepts)


def _read_concept(row: dict[str, str]) -> Concept:
    keywords = tuple(word for word in row["keywords"].split("|") if word)
    unseen = row["concept_split"] == "val"
    return Concept(row["key"], row["name"], keywords, row["group"], row["subgroup"], unseen)


def read_photos(folder: Path) -> list[Photo]:
    """The photographs of a folder, in the order of its `captions.csv`."""
    with (folder / "captions.csv").open(newline="", encoding="utf-8") as file:
        return [Photo(folder / row["file"], row["caption"]) for row in csv.DictReader(file)]


def put_on_white(image: Image.Image) -> Image.Image:
    """An RGB picture on white paper."""
    image = image.convert("RGBA")
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image).convert("RGB")


def show_at(image: Image.Image, pixels: int, size: int) -> Image.Image:
    """What is left at `pixels` x `pixels`, by area, shown at `size` x `size` by nearest."""
    small = image.resize((pixels, pixels), Image.Resampling.BOX)
    return small.resize((size, size), Image.Resampling.NEAREST)
