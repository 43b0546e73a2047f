"""Drawings with names and keywords: a table and tars, as the training data of `mini` has them.

In a folder NAME, the table NAME.csv says for each drawing its name, or its title; its keywords,
with `|` between them; and where it is:

| columns of the table | the drawing is |
|---|---|
| `key` | `KEY.png` in each tar of `designs` that has it |
| `set` and `file` | `FILE` in `SET.tar`, if `designs` is empty or has the set |
| `file` | `FILE` in `NAME.tar` |
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from ecliptic.engine import check_columns
from ecliptic.errors import StorageError, did_you_mean
from ecliptic.inputs import ImageLimits, ImageSource, open_image
from ecliptic.storage import read_text
from ecliptic.train.data.archives import Tars
from ecliptic.train.data.captions import Captioner
from ecliptic.train.data.examples import Example, join_fingerprints
from ecliptic.train.data.held_out import HeldOutNames
from ecliptic.train.data.wordnet import WordNet, WordNetTables
from ecliptic.train.settings import DrawingsConfig

LIMITS = ImageLimits(formats=("PNG",), file_bytes=1 << 20, pixels=1 << 20)
_LONGEST_CELL = 1 << 23  # characters
_FROM_WORDNET = 0.25  # share of varied captions with words of WordNet
_WITH_NAME = 0.4  # share of these with the name before them
_UNKNOWN = 0.1  # share of captions with a strange word, where a name has several words
_SHARED = 2  # drawings of one title; more, and the title is vague ("Various Cliparts")


@dataclass(frozen=True)
class Drawing:
    """Where a drawing is, and what it shows."""

    name: str
    keywords: tuple[str, ...]
    place: tuple[int, int, int]  # number of its tar, offset and size in it
    key: str  # "noto/1f600.png"


class DrawingExamples:
    """Concepts, each with its drawings; or single drawings.

    An example is a concept, of which any drawing is drawn, so that no concept comes twice before
    all have come. With `example = "drawing"` each drawing is one.

    Args:
        drawings: in order.
        names: all names of the table, those of other splits too.
        tars: that hold the drawings.
        config: of the source.
        wordnet: has more words for the names; None: captions have those of the table alone.
        held_out: the names that were left out.
    """

    def __init__(
        self,
        drawings: list[Drawing],
        names: tuple[str, ...],
        tars: Tars,
        config: DrawingsConfig,
        wordnet: WordNet | None = None,
        held_out: HeldOutNames | None = None,
    ) -> None:
        self.names, self.tars, self.config = names, tars, config
        self.captioner = Captioner(config.templates)
        self.wordnet, self.held_out = wordnet, held_out
        self.senses = _find_senses(drawings, wordnet)
        groups: dict[str, list[Drawing]] = {}
        for drawing in drawings:
            each = config.example == "drawing"
            groups.setdefault(drawing.key if each else drawing.name, []).append(drawing)
        self.groups = list(groups.values())

    def __len__(self) -> int:
        return len(self.groups)

    def draw(self, index: int, random: Random) -> Example:
        """A drawing of the concept, and a caption of it."""
        drawing = random.choice(self.groups[index])
        caption = self._caption(drawing, random)
        return Example(drawing.key, self.read(drawing), caption, concept=drawing.name)

    def _caption(self, drawing: Drawing, random: Random) -> str:
        if self.config.captions == "names":
            return drawing.name
        sense = self.senses.get(drawing.name)
        if self.wordnet is not None and " " in drawing.name and random.random() < _UNKNOWN:
            return self.wordnet.disturb(drawing.name, random)
        if self.wordnet is None or sense is None or random.random() >= _FROM_WORDNET:
            return vary_caption(drawing, self.captioner, random)
        words = self.wordnet.describe(sense, random)
        return f"{drawing.name}, {words}" if random.random() < _WITH_NAME else words

    def picture(self, index: int) -> ImageSource:
        """The first drawing of the concept."""
        return self.read(self.groups[index][0])

    @property
    def concepts(self) -> tuple[str, ...]:
        """All names of the drawings."""
        return tuple(dict.fromkeys(group[0].name for group in self.groups))

    def captions(self, index: int) -> tuple[str, ...]:
        """The name."""
        return (self.groups[index][0].name,)

    def fingerprint(self) -> str:
        """`hash_files` of the table, the tars and the table of synsets."""
        parts = [self.tars.fingerprint()]
        parts += [self.wordnet.fingerprint()] if self.wordnet else []
        parts += [self.held_out.fingerprint()] if self.held_out else []
        return join_fingerprints(parts)

    def read(self, drawing: Drawing) -> ImageSource:
        """The picture of a drawing; with `ink`, a grey one is ink on clear paper."""
        data = self.tars.read(*drawing.place)
        if self.config.ink == "none":
            return data
        image = open_image(data, LIMITS, drawing.key)
        if image.mode not in ("1", "L"):
            return image
        grey = np.asarray(image.convert("L"))
        ink = np.zeros((*grey.shape, 4), np.uint8)
        ink[..., 3] = grey if self.config.ink == "white" else 255 - grey
        return Image.fromarray(ink)


def vary_caption(drawing: Drawing, captioner: Captioner, random: Random) -> str:
    """The name, alone in half of all cases; or in a template, with keywords, or keywords alone."""
    name, kind = drawing.name, random.random()
    if name.startswith("flag: ") and random.random() < 0.5:
        name = f"flag of {name.removeprefix('flag: ')}"
    if kind < 0.5 or (kind >= 0.72 and not drawing.keywords):
        return name
    if kind < 0.72:
        return captioner.wrap(name, random)
    count = min(len(drawing.keywords), random.randint(1, 4))
    words = ", ".join(random.sample(drawing.keywords, count))
    return f"{name}, {words}" if kind < 0.9 else words


def open_drawings(
    config: DrawingsConfig, root: Path, tables: WordNetTables | None = None
) -> DrawingExamples:
    """Open the folder of a source, and the table of synsets if captions have its words.

    Args:
        config: of the source.
        root: where its paths begin.
        tables: of synsets that were read before.

    Raises:
        StorageError: the table or a tar is missing or damaged, a column is missing, or no drawing
            is left.
    """
    folder = root / config.path
    table = folder / f"{folder.name}.csv"
    rows = read_csv(table)
    names = name_rows(table, rows)
    kept = [
        (row, name)
        for row, name in zip(rows, names, strict=True)
        if name and config.split in ("all", row.get("concept_split") or config.split)
        and not name.startswith(config.leave_out)
    ]  # fmt: skip
    held_out = None
    if config.held_out is not None:
        held_out = HeldOutNames(root / config.held_out, read_csv(root / config.held_out))
        kept = [(row, name) for row, name in kept if not held_out.has(name, table)]
    tars, places = _index(folder, config, table, rows)
    found = [
        Drawing(name, _words(row, held_out), place, key)
        for row, name in kept
        for key, place in places(row)
    ]
    if not found:
        raise StorageError(
            f"no drawing of {table} is left with designs = {list(config.designs)} and "
            f'split = "{config.split}"; check data.sources.'
        )
    every = tuple(dict.fromkeys(filter(None, names)))
    find = (tables or WordNetTables()).find
    wordnet = None if config.wordnet is None else find(root / config.wordnet)
    return DrawingExamples(found, every, tars, config, wordnet, held_out)


def _find_senses(drawings: list[Drawing], wordnet: WordNet | None) -> dict[str, int]:
    """The synsets of names, where there are any."""
    if wordnet is None:
        return {}
    keywords: dict[str, tuple[str, ...]] = {}
    for drawing in drawings:
        if drawing.name.startswith("flag: "):  # the flags of countries are no senses of a flag
            continue
        keywords[drawing.name] = (*keywords.get(drawing.name, ()), *drawing.keywords)
    found = ((name, wordnet.find(name, words)) for name, words in keywords.items())
    return {name: place for name, place in found if place is not None}


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file.

    Raises:
        StorageError: it is missing, no csv file, or larger than any text file of the data.
    """
    try:
        text = read_text(path, StorageError).removeprefix("\ufeff")
        csv.field_size_limit(_LONGEST_CELL)  # of the whole process, so set before each use
        return list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}; data.root, or --data, is the folder that "
            "holds those of the drawings."
        ) from None
    except csv.Error as error:
        raise StorageError(f"{path} is no csv file: {error}.") from None


def name_rows(table: Path, rows: list[dict[str, str]]) -> list[str]:
    """The name of each row; where there are titles, the file's own stem in place of vague ones."""
    if not rows:
        raise StorageError(f"{table} has no rows; check data.sources.")
    header = list(rows[0])
    if "title" not in header or "name" in header:
        check_columns(table, header, ["name"])
        return [row["name"].strip() for row in rows]
    check_columns(table, header, ["stem"])
    counts = Counter(row["title"].strip().lower() for row in rows)
    titles = (row["title"].strip() for row in rows)
    return [
        title if title and counts[title.lower()] <= _SHARED else row["stem"]
        for title, row in zip(titles, rows, strict=True)
    ]


def _words(row: Mapping[str, str], held_out: HeldOutNames | None = None) -> tuple[str, ...]:
    """Keywords and the category, without names that are held out."""
    words = [word for word in row.get("keywords", "").split("|") if word]
    words = [word for word in words if held_out is None or not held_out.is_one(word)]
    category = row.get("category", "").replace("_", " ") if "title" in row else ""
    return (*words, category) if category else tuple(words)


Places = Callable[[Mapping[str, str]], Iterator[tuple[str, tuple[int, int, int]]]]


def _index(
    folder: Path, config: DrawingsConfig, table: Path, rows: list[dict[str, str]]
) -> tuple[Tars, Places]:
    """The tars of a folder, and a function that finds the drawings of a row in them."""
    header = list(rows[0])
    by_key, by_set = "key" in header, "set" in header
    if not by_key:
        check_columns(table, header, ["file"])
    known = list(dict.fromkeys(row["set"] for row in rows)) if by_set else []
    designs = list(config.designs) or known or [folder.name]
    for design in designs:
        if by_set and design not in known:
            fix = did_you_mean(design, known) or f"its sets are {', '.join(known)}."
            raise StorageError(f"{table} has no set {design!r}; {fix}")
        if os.path.basename(design) != design:  # noqa: PTH119 of a name as it is
            raise StorageError(f"a design is the name of a tar in {folder}, got {design!r}.")
    tars = Tars([*(folder / f"{design}.tar" for design in designs), table])
    at = {
        (design, member.name): (number, member.offset, member.size)
        for number, design in enumerate(designs)
        for member in tars.members(number)
    }

    def find(row: Mapping[str, str]) -> Iterator[tuple[str, tuple[int, int, int]]]:
        file = f"{row['key']}.png" if by_key else row["file"]
        for design in [row["set"]] if by_set else designs:
            if (place := at.get((design, file))) is not None:
                yield f"{design}/{file}", place

    return tars, find
