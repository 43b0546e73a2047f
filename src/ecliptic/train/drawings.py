"""The training data of the built-in model `mini`: drawings, names and keywords in memory.

Reads the folder that the README of the training data describes: `emoji/` (designs as tar files and
`emoji.csv`), `openclipart/`, `game_icons/`. N drawings, C concepts.
"""

import csv
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import StorageError
from ecliptic.inputs import ImageLimits, open_image
from ecliptic.storage import open_regular, read_text

SIDE = 96  # pixels, as stored
_LONGEST_CELL = 1 << 23  # characters
_LIMITS = ImageLimits(formats=("PNG",), file_bytes=1 << 20, pixels=1 << 20)


@dataclass(frozen=True)
class Concept:
    """The subject of a drawing, in words."""

    name: str
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Drawings:
    """N drawings of C concepts; a concept may have several drawings."""

    rgba: Tensor  # (N, 4, 96, 96) uint8 as stored, alpha not premultiplied
    concept: Tensor  # (N,) index into `concepts`
    concepts: tuple[Concept, ...]

    def __len__(self) -> int:
        return len(self.concept)

    def at_size(self, side: int) -> "Drawings":
        """The same drawings (N, 4, side, side), antialiased; colours are weighted by alpha."""
        parts = [_resize(part, side) for part in torch.split(self.rgba, 512)]
        return Drawings(torch.cat(parts), self.concept, self.concepts)


def read_emoji(folder: Path, designs: tuple[str, ...], split: str | None) -> Drawings:
    """Emoji of `designs` whose concept is in `split` ("train", "val", or None for both).

    `concepts` holds the concepts of all emoji in the order of the csv file, for any split.
    """
    rows = read_csv(folder / "emoji.csv")
    concepts = tuple(Concept(r["name"], split_keywords(r["keywords"])) for r in rows)
    wanted = {r["key"]: i for i, r in enumerate(rows) if split in (None, r["concept_split"])}
    drawings: list[np.ndarray] = []
    index: list[int] = []
    for design in designs:
        for key, data in read_tar(folder / f"{design}.tar"):
            if key in wanted:
                drawings.append(data)
                index.append(wanted[key])
    return _stack(drawings, index, concepts)


def read_openclipart(folder: Path) -> Drawings:
    """Each drawing is a concept; its name is the title, or the file name if the title is vague."""
    rows = {r["file"]: r for r in read_csv(folder / "openclipart.csv")}
    titles = [r["title"].strip().lower() for r in rows.values()]
    concepts: list[Concept] = []
    drawings: list[np.ndarray] = []
    for key, data in read_tar(folder / "openclipart.tar"):
        row = rows[f"{key}.png"]
        title = row["title"].strip()
        shared = titles.count(title.lower()) > 2  # such as "Various Cliparts"
        words = (*split_keywords(row["keywords"]), row["category"].replace("_", " "))
        concepts.append(Concept(row["stem"] if shared or not title else title, words))
        drawings.append(data)
    return _stack(drawings, list(range(len(drawings))), tuple(concepts))


def read_game_icons(folder: Path) -> Drawings:
    """White-on-black icons as black drawings without background; "abstract ..." are left out."""
    rows = {r["file"]: r["name"] for r in read_csv(folder / "game_icons.csv")}
    concepts: dict[str, int] = {}
    drawings: list[np.ndarray] = []
    index: list[int] = []
    for key, data in read_tar(folder / "game_icons.tar"):
        name = rows[f"{key}.png"]
        if name.startswith("abstract"):
            continue
        drawings.append(np.concatenate([np.zeros_like(data[:3]), data[:1]]))
        index.append(concepts.setdefault(name, len(concepts)))
    return _stack(drawings, index, tuple(Concept(name) for name in concepts))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file.

    Raises:
        StorageError: it is missing, no csv file, or larger than any text file of the data.
    """
    try:
        text = read_text(path, StorageError)
        csv.field_size_limit(_LONGEST_CELL)  # of the whole process, so set before each use
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except FileNotFoundError:
        raise StorageError(
            f"there is no file {path}; pass the folder that holds emoji/, openclipart/ and "
            "game_icons/ with --data."
        ) from None
    except csv.Error as error:
        raise StorageError(f"{path} is no csv file: {error}.") from None


def read_tar(path: Path) -> list[tuple[str, np.ndarray]]:
    """(stem, (4, 96, 96) uint8 RGBA) of each PNG in a tar file, in order.

    Raises:
        StorageError: it is missing or damaged, or a drawing has another size.
        ImageError: a drawing cannot be decoded.
    """
    try:
        with open_regular(path) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            return [_read_member(path, tar, member) for member in tar if _is_drawing(member)]
    except FileNotFoundError:
        raise StorageError(
            f"there is no file {path}; pass the folder that holds it with --data."
        ) from None
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise StorageError(f"{path} is no intact tar file ({error}); fetch it again.") from None


def _is_drawing(member: tarfile.TarInfo) -> bool:
    return member.isreg() and member.name.endswith(".png")


def _read_member(
    path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo
) -> tuple[str, np.ndarray]:
    file = tar.extractfile(member)
    data = file.read(_LIMITS.file_bytes + 1) if file else b""
    image = open_image(data, _LIMITS, f"{member.name} in {path}").convert("RGBA")
    if image.size != (SIDE, SIDE):
        raise StorageError(f"{member.name} in {path} is not {SIDE}x{SIDE} pixels.")
    return Path(member.name).stem, np.asarray(image).transpose(2, 0, 1)


def split_keywords(text: str) -> tuple[str, ...]:
    """ "a|b" -> ("a", "b")."""
    return tuple(word for word in text.split("|") if word)


def _resize(rgba: Tensor, side: int) -> Tensor:
    if rgba.shape[-1] == side:
        return rgba
    x = rgba.float() / 255
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
    x = F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    x = torch.cat([x[:, :3] / x[:, 3:].clamp(min=1 / 255), x[:, 3:]], dim=1)
    return (x.clamp(0, 1) * 255).round().byte()


def _stack(drawings: list[np.ndarray], index: list[int], concepts: tuple[Concept, ...]) -> Drawings:
    return Drawings(torch.from_numpy(np.stack(drawings)), torch.tensor(index), concepts)
