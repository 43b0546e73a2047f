"""Tables of images that people labelled: a column with the image, and one with its label."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ecliptic.cli.output import on_terminal, say, say_rejects
from ecliptic.engine import (
    Clip,
    Columns,
    Item,
    Rejects,
    embed_items,
    name_row,
    progress_bar,
    read_rows,
    row_item,
)
from ecliptic.errors import EclipticError, InputError, MissingColumnError, StorageError
from ecliptic.inputs import ImageSource

if TYPE_CHECKING:
    from torch import Tensor

IMAGE, LABEL = "image", "label"  # the columns; --column may name another one for the images
BETWEEN = ";"  # several labels of one image
LabelledRow = TypeVar("LabelledRow")


@dataclass
class LabelledImages:
    """The vectors of labelled images, and the label of each."""

    vectors: "Tensor"  # (N, E)
    labels: list[str]  # N, as they stand in the table
    names: list[str]  # N, for people
    sources: list[ImageSource]  # N, to show them
    rejects: Rejects = field(default_factory=Rejects)


def read_labelled_images(
    path: Path, clip: Clip, column: str | None, check: Callable[[str], object]
) -> LabelledImages:
    """Encode the images of a table; rows that cannot be used are listed on stderr.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file; paths of images are relative to its folder.
        clip: the model.
        column: that of the images; None is "image".
        check: raises an error for a label that is not known.

    Raises:
        StorageError: the table cannot be read, or lacks a column.
        InputError: no row can be used.
        EclipticError: of `check`, for any row, with its number.
    """
    columns = Columns(column or IMAGE)
    rows: list[tuple[str, str, ImageSource]] = []  # label, name, source of every item

    def items() -> Iterator[Item]:
        for number, row in _read_table(path, columns.value):
            where = name_row(str(path), number)
            item = row_item(row, columns, path.parent, where)
            label, problem = _read_label(row)
            if not problem:
                _check(check, label, where)
            rows.append((label, item.name, item.value))
            error = item.error or (InputError(problem) if problem else None)
            yield Item(where if item.error else f"{where} ({item.name})", item.value, error)

    vectors, rejects = encode_rows(clip, items())
    kept = keep_usable(path, rows, rejects)
    labels, names, sources = map(list, zip(*kept, strict=True))
    return LabelledImages(vectors, labels, names, sources, rejects)


def _read_table(path: Path, image: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows of a table; a missing column is told with what to do."""
    try:
        yield from read_rows(str(path), [image, LABEL])
    except MissingColumnError as error:
        fixes: list[str] = []
        others = [name for name in error.header if name != LABEL]
        if image not in error.header and others:
            fixes.append(f"give the name of the column of the images, as in --column {others[0]}")
        if LABEL not in error.header:
            fixes.append(f"call the column of the labels {LABEL!r}")
        raise StorageError(f"{error} To fix it, {', and '.join(fixes)}.") from None


def encode_rows(clip: Clip, items: Iterable[Item]) -> "tuple[Tensor, Rejects]":
    """(N, E) vectors of the images of a table that can be used, and the others.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    import torch

    with progress_bar("labelled images", None, show=on_terminal()) as advance:
        done = embed_items(clip, [("image", items)], None, advance, lambda text: say(text))
    with done:
        if done.interrupted:
            raise KeyboardInterrupt
        return torch.from_numpy(done.vectors().copy()), done.rejects


def keep_usable(path: Path, rows: Sequence[LabelledRow], rejects: Rejects) -> list[LabelledRow]:
    """The rows of a table that were not rejected; the others are listed on stderr.

    Raises:
        InputError: no row can be used.
    """
    say_rejects(rejects, len(rejects))
    bad = {reject.index for reject in rejects}
    kept = [row for index, row in enumerate(rows) if index not in bad]
    if not rows:
        raise InputError(f"{path} has no rows; write one for each image.")
    if not kept:
        raise InputError(f"no row of {path} could be used.")
    return kept


def _read_label(row: dict[str, Any] | str) -> tuple[str, str]:
    """The label of a row, or what is wrong with it."""
    if isinstance(row, str):
        return "", row
    value = row.get(LABEL)
    if not isinstance(value, str) or not value.strip():
        shown = "nothing" if value in (None, "") or isinstance(value, str) else repr(value)
        return "", f"column {LABEL!r} holds {shown}; it must be one of the labels."
    return value.strip(), ""


def _check(check: Callable[[str], object], label: str, where: str) -> None:
    try:
        check(label)
    except EclipticError as error:
        raise InputError(f"{where}: {error}") from None
