"""Reads the rows to score: from tables, and from folders of images with a table of captions."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecliptic.engine import (
    STDIN,
    Columns,
    Item,
    escape_surrogates,
    image_files,
    name_row,
    read_rows,
    row_item,
)
from ecliptic.errors import (
    ConfigError,
    EclipticError,
    InputError,
    MissingColumnError,
    StorageError,
    did_you_mean,
)
from ecliptic.inputs import ImageSource
from ecliptic.tasks.scores.metrics import Metric

_NAMED = 3  # images that a note names
_LIST = re.compile(r'\s*\[(\s*"|.*\]\s*$)', re.DOTALL)  # in JSON; "[a] cat" is a text
_NO_TEXT = ("nan", "NaN")  # what programs write for a cell without a value


@dataclass(frozen=True)
class ScoreRow:
    """One row to score, or why it cannot be."""

    name: str  # where it is, for people: "pairs.csv, line 3"
    images: tuple[ImageSource, ...] = ()  # those of each system, in the order of `Metric.images`
    texts: tuple[str, ...] = ()  # in the order of `Metric.texts`
    references: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()  # names of the images
    group: str = ""  # rows of one group are drawn together
    error: EclipticError | None = None


@dataclass(frozen=True)
class RowColumns:
    """Which column of a table holds what; by default it has the name of what it holds."""

    metric: Metric
    named: Mapping[str, str] = field(default_factory=dict)  # what -> column, or columns with "+"

    def __post_init__(self) -> None:
        known = (*self.metric.columns, "group")
        for what in self.named:
            if what not in known:
                near = did_you_mean(what, known)
                raise ConfigError(
                    f"the score {self.metric.name} reads no {what!r}; it reads {', '.join(known)}"
                    + (f"; {near}" if near else ".")
                )
        if self.metric.by_prompt and "group" in self.named:
            raise ConfigError(
                f"the score {self.metric.name} already counts the images of one caption as one "
                "observation, so groups would have no effect; leave group out."
            )

    def of(self, what: str) -> list[str]:
        """The columns that hold `what`; only references may be in several."""
        given = self.named.get(what, what)
        return given.split("+") if what == "references" else [given]

    def names(self) -> list[str]:
        """Every column that is read."""
        group = ("group",) if "group" in self.named else ()
        return [name for what in (*self.metric.columns, *group) for name in self.of(what)]


def table_rows(path: str, columns: RowColumns) -> Iterator[ScoreRow]:
    """The rows of a table, or of JSON lines on standard input ("-").

    Paths of images are relative to the table's folder.

    Raises:
        StorageError: the table cannot be read, or has no such column.
        InputError: it has no rows.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    folder = Path() if path == STDIN else Path(path).parent
    for where, row in _read(path, columns):
        items = [_image(row, columns.of(what)[0], folder, where) for what in columns.metric.images]
        yield _make_row(where, row, columns, items)


def folder_rows(
    folders: Sequence["ImageFolder"], captions: str, columns: RowColumns
) -> Iterator[ScoreRow]:
    """A row for each caption of a table, with the image of its name in every folder.

    Raises:
        StorageError: the table cannot be read, or has no such column.
        InputError: it has no rows.
    """
    for where, row in _read(captions, columns):
        name = columns.of("image")[0]
        items = [folder.find(row, name, where) for folder in folders]
        yield _make_row(where, row, columns, items)


def image_rows(folders: Sequence["ImageFolder"]) -> Iterator[ScoreRow]:
    """A row for each image of the first folder, with that of its name in the others; no texts."""
    for name in folders[0].names():
        row = {"image": name}
        items = [folder.find(row, "image", name) for folder in folders]
        yield _row_of(name, items, (), (), "")


class ImageFolder:
    """The images below a folder, found by their names; it knows which were named."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._files: dict[str, Item] = {}  # by path below the folder
        self._bare: dict[str, list[str]] = {}  # the same without suffix -> those paths
        for item in image_files(path):
            name = Path(item.name).relative_to(escape_surrogates(path)).as_posix()
            self._files[name] = item
            self._bare.setdefault(_without_suffix(name), []).append(name)
        self._left = dict.fromkeys(self._files)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._files)

    def names(self) -> list[str]:
        """The paths of all images below the folder, in order."""
        return list(self._files)

    def find(self, row: Any, column: str, where: str) -> Item:
        """The image that a row of a table names, with its suffix or without; or what is wrong."""
        named = row.get(column) if isinstance(row, Mapping) else None
        if not isinstance(named, str) or not named.strip():
            problem = f"nothing usable in column {column!r}; it must hold the name of an image."
            return Item(where, "", InputError(problem))
        name = Path(named).as_posix()
        near = [name] if name in self._files else self._bare.get(_without_suffix(name), [])
        if len(near) != 1:
            what = f"{len(near)} images" if near else "no image"
            problem = f"{self.path} has {what} of the name {name!r}{self._hint(name)}."
            return Item(escape_surrogates(named), "", InputError(problem))
        self._left.pop(near[0], None)
        return self._files[near[0]]

    def _hint(self, name: str) -> str:
        """How to write a name that is a path of the image from elsewhere; "" for others."""
        bare = _without_suffix(Path(name).name)
        if "/" not in name or bare not in self._bare:
            return ""
        return f"; names are relative to the folder, so write {self._bare[bare][0]!r}"

    def note_left(self) -> str:
        """Which images no row named; "" if all were."""
        if not self._left:
            return ""
        named = ", ".join(list(self._left)[:_NAMED]) + ", ..." * (len(self._left) > _NAMED)
        return (
            f"{len(self._left):,} of {len(self):,} images of {self.path} are named by no row, so "
            f"they have no score: {named}"
        )


def _without_suffix(name: str) -> str:
    return Path(name).with_suffix("").as_posix() if name else name


def _read(path: str, columns: RowColumns) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for number, row in read_rows(path, columns.names()):
            yield name_row(path, number), row
    except MissingColumnError as error:
        raise StorageError(f"{error}{_ask_columns(columns, error.header)}") from None
    if not number:
        where = "standard input" if path == STDIN else escape_surrogates(path)
        raise InputError(f"{where} has no rows; give one for each item to score.")


def _ask_columns(columns: RowColumns, header: Sequence[str]) -> str:
    """How to name the columns that a table has under other names; "" if all of those are named."""
    lacks = [
        f"{what}=NAME"
        for what in columns.metric.columns
        if what not in columns.named and what not in header
    ]
    return f' Name yours with columns="{",".join(lacks)}".' if lacks else ""


def _image(row: Any, column: str, folder: Path, where: str) -> Item:
    return row_item(row, Columns(column, kind="image"), folder, where)


def _make_row(where: str, row: Any, columns: RowColumns, images: Sequence[Item]) -> ScoreRow:
    """The row of a table; `images` are found before."""
    if isinstance(row, str):  # an error message
        return ScoreRow(where, error=InputError(row))
    items = [_text(row, columns.of(what)[0], where) for what in columns.metric.texts]
    broken = next((item.error for item in (*images, *items) if item.error), None)
    if broken is not None:
        return ScoreRow(where, labels=tuple(item.name for item in images), error=broken)
    try:
        references = _references(row, columns) if columns.metric.references else ()
        group = _group(row, columns)
    except InputError as error:
        return ScoreRow(where, labels=tuple(item.name for item in images), error=error)
    return _row_of(where, images, [str(item.value) for item in items], references, group)


def _row_of(
    where: str,
    images: Sequence[Item],
    texts: Sequence[str],
    references: Sequence[str],
    group: str,
) -> ScoreRow:
    labels = tuple(item.name for item in images)
    error = next((item.error for item in images if item.error), None)
    sources = tuple(item.value for item in images)
    return ScoreRow(where, sources, tuple(texts), tuple(references), labels, group, error)


def _text(row: Any, column: str, where: str) -> Item:
    item = row_item(row, Columns(column, kind="text"), Path(), where)
    if item.error is None and not str(item.value).strip():
        return Item(where, "", InputError(f"the text in column {column!r} is empty."))
    if item.value in _NO_TEXT:
        problem = (
            f"the text in column {column!r} is {item.value!r}, which programs write for an empty "
            "cell; write a caption."
        )
        return Item(where, "", InputError(problem))
    return item


def _group(row: Any, columns: RowColumns) -> str:
    """The group of a row; "" if no column has them."""
    if "group" not in columns.named:
        return ""
    [name] = columns.of("group")
    value = row.get(name)
    if value is None or not str(value).strip():
        raise InputError(f"nothing usable in column {name!r}; it must hold the group of the row.")
    return str(value)


def _references(row: Any, columns: RowColumns) -> tuple[str, ...]:
    """The references of a row: a list, a list as JSON, or one text; from one column or several."""
    found: list[Any] = []
    for name in columns.of("references"):
        value = row.get(name)
        if isinstance(value, str) and _LIST.match(value):
            try:
                value = json.loads(value)
            except ValueError:
                raise InputError(
                    f"column {name!r} has a text in [ ] that is no list in JSON; write it as in "
                    '["a cat", "cats"].'
                ) from None
        found += value if isinstance(value, list) else [value]
    texts = tuple(text for text in found if isinstance(text, str) and text.strip())
    if not texts:
        names = " and ".join(map(repr, columns.of("references")))
        raise InputError(
            f"no reference in column {names}; it must hold a text, or a list of texts."
        )
    return texts
