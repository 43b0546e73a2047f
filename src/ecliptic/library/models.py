"""What a library says of its model, and what it is given to add."""

import glob
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ecliptic.checkpoints import catalog
from ecliptic.engine import Clip, Columns, Item, image_item, read_items
from ecliptic.errors import SpaceMismatchError, warn
from ecliptic.index import ColumnType
from ecliptic.library.layout import LibraryAbout


def check_clip(folder: Path, about: LibraryAbout, clip: Clip) -> None:
    """Raise unless the model is of the space of a library.

    Raises:
        SpaceMismatchError: it is of another one.

    Warns:
        UserWarning: its vectors differ a little, by precision or preparation.
    """
    card = clip.card
    if card.space != about.space:
        raise SpaceMismatchError(
            f"{folder} was made with {about.name} (space {about.space[:12]}), but the "
            f"model is {card.name} (space {card.space[:12]}); use that model, or embed the "
            "pictures anew with reembed."
        )
    if card.exact != about.exact:
        warn(
            f"{folder} was made with another precision or preparation of images than "
            f"{card.name} has now; vectors differ a little.",
            stacklevel=None,
        )


def describe(clip: Clip, given: Clip | str, columns: Mapping[str, ColumnType]) -> LibraryAbout:
    """What a library of this model says about itself; `given` is what the user passed."""
    card = clip.card
    return LibraryAbout(
        name_source(given), card.name, card.space, card.exact, card.embed, dict(columns)
    )


def name_source(clip: Clip | str) -> str:
    """What `load` takes to load the model again; "" if that is not known."""
    if isinstance(clip, str):
        return str(Path(clip).absolute()) if Path(clip).exists() else clip
    return clip.card.name if clip.card.name in {"mini", *catalog.names()} else ""


def items_of(given: str | os.PathLike[str] | Item, columns: Columns | None) -> Iterable[Item]:
    """The items of one thing that `Library.add` is given."""
    if isinstance(given, Item):
        return [given]
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
        return (
            read_items(given, columns or Columns()) if Path(given).is_dir() else [image_item(given)]
        )
    return read_items(given, columns or Columns())


def watched_folder(path: str) -> str:
    """The folder whose files are looked for when they are gone; "" for single files and tables."""
    if Path(path).is_dir():
        return path
    if os.path.lexists(path) or not glob.has_magic(path):
        return ""
    parts = Path(path).parts
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    return str(Path(*plain)) if plain else "."
