"""Makes the folder of a library: its store first, and the file that makes it a library last."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ecliptic.engine import Clip
from ecliptic.errors import StorageError
from ecliptic.index import ColumnType, Store, open_store
from ecliptic.library.filling.facts import check_own_columns
from ecliptic.library.layout import ABOUT, begin_again, is_unused, write_about
from ecliptic.library.models import describe


def check_free(folder: Path) -> None:
    """Raise StorageError unless a library can be made in `folder`."""
    if folder.exists() and not is_unused(folder):
        what = "a library" if (folder / ABOUT).exists() else "something else"
        raise StorageError(f"{folder} exists and holds {what}; open it, or choose another path.")


def make_library(
    folder: Path,
    clip: Clip,
    source: Clip | str,
    columns: Mapping[str, ColumnType],
    fill_store: Callable[[Store], object] = lambda _: None,
) -> None:
    """Make a library in a folder that `check_free` passed.

    Args:
        folder: of the library.
        clip: the model.
        source: what `load` takes to load the model again, or the model if that tells it.
        columns: of the user.
        fill_store: puts rows into it before it becomes a library.
    """
    check_own_columns(columns)
    about = describe(clip, source, columns)
    begin_again(folder)
    with open_store(folder / about.items, about.schema()) as store:
        fill_store(store)
    write_about(folder, about)  # last, because a folder without it is no library
