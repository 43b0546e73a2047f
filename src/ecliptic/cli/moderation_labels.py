"""Tables of images that people labelled: a column with the image, and one for each concept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.cli.labelled import IMAGE, encode_rows, keep_usable
from ecliptic.engine import Clip, Columns, Item, Rejects, name_row, read_rows, row_item
from ecliptic.errors import InputError

_WORDS = {
    **dict.fromkeys(("1", "true", "yes"), True),
    **dict.fromkeys(("0", "false", "no"), False),
}


@dataclass(frozen=True)
class LabelledItem:
    """One row of the table; the item has an error if the row cannot be used."""

    item: Item
    said: dict[str, bool]  # of each concept
    group: str  # "" without a column of groups


@dataclass
class Labelled:
    """What was said about the images that can be used."""

    truth: dict[str, list[bool]]  # N for each concept
    groups: list[str] | None  # N; None without a column of groups
    names: list[str]  # N, for messages
    rejects: Rejects = field(default_factory=Rejects)
    vectors: Tensor = field(default_factory=lambda: torch.empty(0, 0))  # (N, E), once encoded


@dataclass(frozen=True)
class LabelColumns:
    """The columns of a labelled table."""

    concepts: Sequence[str]  # each holds 1 or 0, yes or no, true or false
    image: str | None = None  # None is "image"
    group: str | None = None


def read_labelled(path: Path, clip: Clip, columns: LabelColumns) -> Labelled:
    """Encode the images of a table; rows that cannot be used are listed on stderr.

    Raises:
        StorageError: the table cannot be read, or lacks a column.
        InputError: no row can be used.
    """
    rows: list[LabelledItem] = []

    def items() -> Iterator[Item]:
        for row in list_labelled(path, columns):
            rows.append(row)
            yield row.item

    vectors, rejects = encode_rows(clip, items())
    return replace(collect_labelled(path, rows, rejects, columns), vectors=vectors)


def list_labelled(path: Path, columns: LabelColumns) -> Iterator[LabelledItem]:
    """Every row of a table, usable or not; paths of images are relative to its folder.

    Raises:
        StorageError: the table cannot be read, or lacks a column.
        InputError: one column for the images and for a concept.
    """
    table = Columns(columns.image or IMAGE)
    if table.value in columns.concepts:
        raise InputError(
            f"a concept is called {table.value!r}, as the column of the images is; rename the "
            "column, and give its name to --column."
        )
    names = [table.value, *columns.concepts, *filter(None, (columns.group,))]
    for number, row in read_rows(str(path), names):
        where = name_row(str(path), number)
        item = row_item(row, table, path.parent, where)
        said, problem = _read_row(row, columns)
        name = item.name if item.error else f"{where} ({item.name})"
        error = item.error or (InputError(problem) if problem else None)
        group = str(row.get(columns.group)) if columns.group and isinstance(row, dict) else ""
        yield LabelledItem(Item(name, item.value, error), said, group)


def collect_labelled(
    path: Path, rows: Sequence[LabelledItem], rejects: Rejects, columns: LabelColumns
) -> Labelled:
    """What was said about the images that can be used; the others are listed on stderr.

    Raises:
        InputError: no row can be used.
    """
    kept = keep_usable(path, rows, rejects)
    truth = {name: [row.said[name] for row in kept] for name in columns.concepts}
    groups = [row.group for row in kept] if columns.group else None
    return Labelled(truth, groups, [row.item.name for row in kept], rejects)


def _read_row(row: dict[str, Any] | str, columns: LabelColumns) -> tuple[dict[str, bool], str]:
    """What a row says of each concept, or what is wrong with it."""
    if isinstance(row, str):
        return {}, row
    said: dict[str, bool] = {}
    for name in columns.concepts:
        value = row.get(name)
        word = str(int(value) if value in (0, 1) else value).strip().casefold()
        if word not in _WORDS:
            shown = "nothing" if value in (None, "") else repr(value)
            return {}, f"column {name!r} holds {shown}; it must be 1 or 0, yes or no."
        said[name] = _WORDS[word]
    if columns.group and row.get(columns.group) in (None, ""):
        return {}, f"column {columns.group!r} holds nothing; it must be the name of a group."
    return said, ""
