"""Tables of images that people labelled: a column with the image, and one for each concept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.cli.output import on_terminal, say, say_rejects
from ecliptic.engine import (
    Clip,
    Columns,
    Item,
    Rejects,
    embed_items,
    escape_surrogates,
    progress_bar,
    read_rows,
    row_item,
)
from ecliptic.errors import InputError

IMAGE = "image"  # the column of the images, unless --column names another
_WORDS = {
    **dict.fromkeys(("1", "true", "yes"), True),
    **dict.fromkeys(("0", "false", "no"), False),
}


@dataclass
class Labelled:
    """The vectors of labelled images, and what was said about each."""

    vectors: Tensor  # (N, E)
    truth: dict[str, list[bool]] = field(default_factory=dict)  # N for each concept
    groups: list[str] = field(default_factory=list)  # N; empty without a column of groups
    rejects: Rejects = field(default_factory=Rejects)


def read_labelled(
    path: Path, clip: Clip, concepts: Sequence[str], column: str | None, group: str | None
) -> Labelled:
    """Encode the images of a table; rows that cannot be used are listed on stderr.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file; paths of images are relative to its folder.
        clip: the model.
        concepts: the columns that hold 1 or 0, yes or no, true or false.
        column: that of the images; None is "image".
        group: the column of the groups.

    Raises:
        StorageError: the table cannot be read, or lacks a column.
        InputError: no row can be used.
    """
    columns = Columns(column or IMAGE)
    names = [columns.value, *concepts, *filter(None, (group,))]
    rows: list[tuple[dict[str, bool], str]] = []  # of every item

    def items() -> Iterator[Item]:
        for number, row in read_rows(str(path), names):
            where = f"{escape_surrogates(path)}, row {number}"
            item = row_item(row, columns, path.parent, where)
            said, problem = _read_row(row, concepts, group)
            rows.append((said, str(row.get(group)) if group and isinstance(row, dict) else ""))
            name = item.name if item.error else f"{where} ({item.name})"
            error = item.error or (InputError(problem) if problem else None)
            yield Item(name, item.value, error)

    with progress_bar("labelled images", None, show=on_terminal()) as advance:
        done = embed_items(clip, [("image", items())], None, advance, lambda text: say(text))
    with done:
        if done.interrupted:
            raise KeyboardInterrupt
        say_rejects(done.rejects, len(done.rejects))
        if not done.names:
            raise InputError(f"no row of {path} could be used.")
        bad = {reject.index for reject in done.rejects}
        kept = [row for index, row in enumerate(rows) if index not in bad]
        return Labelled(
            torch.from_numpy(done.vectors().copy()),
            {name: [said[name] for said, _ in kept] for name in concepts},
            [name for _, name in kept] if group else [],
            done.rejects,
        )


def _read_row(
    row: dict[str, Any] | str, concepts: Sequence[str], group: str | None
) -> tuple[dict[str, bool], str]:
    """What a row says of each concept, or what is wrong with it."""
    if isinstance(row, str):
        return {}, row
    said: dict[str, bool] = {}
    for name in concepts:
        value = row.get(name)
        word = str(int(value) if value in (0, 1) else value).strip().casefold()
        if word not in _WORDS:
            shown = "nothing" if value in (None, "") else repr(value)
            return {}, f"column {name!r} holds {shown}; it must be 1 or 0, yes or no."
        said[name] = _WORDS[word]
    if group and row.get(group) in (None, ""):
        return {}, f"column {group!r} holds nothing; it must be the name of a group."
    return said, ""
