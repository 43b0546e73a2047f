"""Reads tables of rated images, or of choices between two images.

The names of the columns decide what a table is: `image` and `rating`, or `better` and `worse`; and
`group` beside them, where there is one.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ecliptic.engine import (
    Card,
    Clip,
    Columns,
    Item,
    Rejects,
    embed_items,
    is_table,
    name_row,
    open_text,
    read_rows,
    row_item,
)
from ecliptic.errors import EclipticError, InputError, StorageError, did_you_mean
from ecliptic.storage import open_parquet
from ecliptic.tasks.aesthetic.copies import are_copies
from ecliptic.tasks.aesthetic.training import HeadFit, train_on_choices, train_on_ratings

GROUP = "group"
LONGEST_HEADER = 1 << 16  # characters
COLUMNS: dict[str, tuple[str, str]] = {
    "ratings": ("image", "rating"),
    "choices": ("better", "worse"),
}
HELD = {  # what the columns hold, for messages
    "image": "images",
    "rating": "ratings",
    "better": "the preferred images",
    "worse": "the other images",
}


@dataclass
class RatingTable:
    """The usable rows of a table: images with a rating, or two images of which one was chosen."""

    kind: Literal["ratings", "choices"]
    rows: list[tuple[Item, ...]] = field(default_factory=list)  # one image, or the better first
    names: list[str] = field(default_factory=list)  # of these rows: "ratings.csv, line 7"
    places: list[int] = field(default_factory=list)  # of these rows in the table, from 0
    ratings: list[float] = field(default_factory=list)  # of the rows of "ratings"
    groups: list[str] | None = None  # of the rows, if the table has groups
    unused: tuple[str, ...] = ()  # columns that are not read
    rejects: Rejects = field(default_factory=Rejects)

    def files(self) -> list[str]:
        """The images of all rows that are files."""
        return [item.value for row in self.rows for item in row if isinstance(item.value, str)]


def read_ratings(path: str) -> RatingTable:
    """Read a .csv, .tsv, .jsonl or .parquet table; paths of images are relative to its folder.

    A row that cannot be used is one of `rejects`, with its line and the reason.

    Raises:
        StorageError: the table cannot be read, or has no such columns.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    if not is_table(path):
        raise StorageError(f"{path} is no table; give a .csv, .tsv, .jsonl or .parquet file.")
    header = _read_header(path)
    kind = _find_kind(path, header)
    grouped = GROUP in header
    names = [*COLUMNS[kind], *([GROUP] if grouped else [])]
    table = RatingTable(kind, groups=[] if grouped else None)
    table.unused = tuple(name for name in header if name not in names)
    for place, (number, row) in enumerate(read_rows(path, names)):
        _add_row(table, row, place, name_row(path, number), Path(path).parent)
    return table


def _read_header(path: str) -> list[str]:
    """The columns of a table; of JSON lines, those of all objects."""
    suffix = Path(path).suffix.lower()
    if suffix == ".parquet":
        return list(open_parquet(path, "a .csv")[1].schema_arrow.names)
    if suffix == ".jsonl":
        rows = (row for _, row in read_rows(path, []) if isinstance(row, dict))
        return list(dict.fromkeys(name for row in rows for name in row))
    with open_text(path) as file:
        first = file.readline(LONGEST_HEADER)
    return next(csv.reader([first], delimiter="\t" if suffix == ".tsv" else ","), [])


def _find_kind(path: str, header: list[str]) -> Literal["ratings", "choices"]:
    both = [kind for kind, columns in COLUMNS.items() if {*columns} <= {*header}]
    if len(both) == 1:
        return "ratings" if both[0] == "ratings" else "choices"
    known = ", ".join(header) or "none"
    if both:
        raise StorageError(
            f"{path} has the columns of ratings (image, rating) and of choices (better, worse); "
            "make two tables of it."
        )
    nearest = max(COLUMNS.values(), key=lambda names: len({*names} & {*header}))
    missing = [name for name in nearest if name not in header]
    others = [name for name in header if name not in nearest]
    near = next(filter(None, (did_you_mean(name, missing) for name in others)), "")
    rename = " and ".join(f"the column of {HELD[name]} to {name}" for name in missing)
    raise StorageError(
        f"{path} needs the columns image and rating, or better and worse; its columns: {known}; "
        + (near or f"rename {rename}.")
    )


def _add_row(
    table: RatingTable, row: dict[str, Any] | str, place: int, where: str, folder: Path
) -> None:
    """Add a row to the table, or to its rejects."""
    columns = COLUMNS[table.kind][:1] if table.kind == "ratings" else COLUMNS[table.kind]
    items = tuple(row_item(row, Columns(name), folder, where) for name in columns)
    error = next((item.error for item in items if item.error), None)
    group = str(row.get(GROUP) or "").strip() if isinstance(row, dict) else ""
    rating = math.nan
    if error is None and isinstance(row, dict):
        error = _check_row(table, items, group)
        if error is None and table.kind == "ratings":
            rating, error = _parse_rating(row.get("rating"))
    if error is not None:
        table.rejects.add(place, where, error)
        return
    table.rows.append(items)
    table.names.append(where)
    table.places.append(place)
    if table.kind == "ratings":
        table.ratings.append(rating)
    if table.groups is not None:
        table.groups.append(group)


def _check_row(table: RatingTable, items: tuple[Item, ...], group: str) -> InputError | None:
    if len(items) == 2 and items[0].value == items[1].value:
        return InputError("better and worse are the same image.")
    if table.groups is not None and not group:
        return InputError("nothing in column 'group'; name the group of every image.")
    return None


def _check_copies(better: Tensor, worse: Tensor) -> EclipticError | None:
    if bool(are_copies(better, worse)):
        return InputError("better and worse are copies of one image.")
    return None


def _parse_rating(value: Any) -> tuple[float, InputError | None]:
    """A finite number, or what is wrong."""
    shown = str(value)[:40]
    try:
        rating = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        rating = math.nan
    if not math.isfinite(rating):
        found = "nothing" if value in (None, "") else repr(shown)
        return rating, InputError(f"{found} in column 'rating'; it must be a finite number.")
    return rating, None


@dataclass(frozen=True)
class RatedVectors:
    """The vectors of the images of a table, a row for each usable row of it."""

    kind: Literal["ratings", "choices"]
    vectors: Tensor  # (N, E) of the rated or of the chosen images
    others: Tensor  # (N, E) of those that were not chosen; of "ratings" it is empty
    ratings: tuple[float, ...]
    groups: tuple[str, ...] | None

    def fit(self, card: Card, *, name: str = "own head", seed: int = 0) -> HeadFit:
        """Train a head; arguments and errors as of `train_on_ratings` and `train_on_choices`."""
        if self.kind == "ratings":
            return train_on_ratings(
                self.vectors, self.ratings, card, self.groups, name=name, seed=seed
            )
        return train_on_choices(self.vectors, self.others, card, self.groups, name=name, seed=seed)


def encode_ratings(
    table: RatingTable, clip: Clip, advance: Callable[[int], object] = lambda _: None
) -> RatedVectors:
    """Encode the images of a table, each once; rows whose image cannot be used become rejects.

    Args:
        table: of `read_ratings`; its rejects grow.
        clip: the model.
        advance: called with the number of images done since the last call.
    """
    items = list({item.value: item for row in table.rows for item in row}.values())
    with embed_items(clip, [("image", items)], None, advance) as done:
        if done.interrupted:
            raise KeyboardInterrupt
        bad = {items[reject.index].value: reject.error for reject in done.rejects}
        kept = (item.value for item in items if item.value not in bad)
        rows = {value: row for row, value in enumerate(kept)}
        vectors = torch.from_numpy(np.array(done.vectors()))
    usable = list[int]()
    for number, row in enumerate(table.rows):
        error = next((bad[item.value] for item in row if item.value in bad), None)
        if error is None and len(row) == 2:
            error = _check_copies(*(vectors[rows[item.value]] for item in row))
        if error is None:
            usable.append(number)
        else:
            table.rejects.add(table.places[number], table.names[number], error)
    ends = [vectors[[rows[table.rows[n][side].value] for n in usable]] for side in (0, -1)]
    return RatedVectors(
        table.kind,
        ends[0],
        ends[1] if table.kind == "choices" else ends[1][:0],
        tuple(table.ratings[n] for n in usable) if table.kind == "ratings" else (),
        None if table.groups is None else tuple(table.groups[n] for n in usable),
    )
