"""What a library says of its model, and what it is given to add."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ecliptic.checkpoints import catalog
from ecliptic.engine import Clip, Columns, Item, image_item, is_table, is_tar, load, read_items
from ecliptic.errors import ConfigError, InputError, SpaceMismatchError, warn
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
    return known_name(clip.card.name)


def known_name(name: str) -> str:
    """The name of a model if `load` takes it, else ""."""
    return name if name in {"mini", *catalog.names()} else ""


def items_of(given: str | os.PathLike[str] | Item, columns: Columns | None) -> Iterable[Item]:
    """The items of one thing that `Library.add` is given."""
    if isinstance(given, Item):
        return [given]
    path = os.fspath(given)
    if isinstance(given, os.PathLike) and not (
        os.path.isdir(path) or is_table(path) or is_tar(path)  # noqa: PTH112 of a name as it is
    ):
        return [image_item(path)]  # never a pattern, nor standard input
    return _read(path, columns) if columns else read_items(path, Columns())


def _read(given: str, columns: Columns) -> Iterator[Item]:
    for item in read_items(given, columns):
        if columns.id and is_table(given) and isinstance(item.value, str) and item.value:
            raise InputError(
                f"{given} holds paths, and a library names files by their paths; leave out the "
                "column of ids, or keep it as a column of the library."
            )
        yield item


def watched_folder(given: str | os.PathLike[str]) -> str:
    """The folder whose files are looked for when they are gone; "" for single files and tables."""
    path = os.fspath(given)
    if os.path.isdir(path):  # noqa: PTH112 Path.is_dir fails on long names
        return path
    if not isinstance(given, str) or os.path.lexists(path) or not glob.has_magic(path):
        return ""
    parts = Path(path).parts
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    return str(Path(*plain)) if plain else "."


def load_own(folder: Path, about: LibraryAbout) -> Clip:
    """Load the model that made a library.

    Raises:
        ConfigError: it was not made from a name or path that is known.
        SpaceMismatchError: what has its name is another model now.
    """
    if not about.model:
        raise ConfigError(
            f"{folder} was made with {about.name}, but not from a name or path that is known; pass "
            "the model to Library.open."
        )
    clip = load(about.model)
    check_clip(folder, about, clip)
    return clip
