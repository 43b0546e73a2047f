"""The folder of a library, and the file that says what is in it.

photos.library/
  library.json      the model, its space, which items are current
  items-<space>/    a store: one row per picture
  thumbnails/       a table: one small JPEG per content
  rejects/          a table: pictures that could not be used, with reasons
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.index import ColumnType, StoreSchema
from ecliptic.storage import make_folder, read_json, replace_file, text_writer

ABOUT = "library.json"
THUMBNAILS, REJECTS = "thumbnails", "rejects"
_FORMAT = 1  # increased when older versions cannot read the new libraries
COLUMNS: dict[str, ColumnType] = {
    "path": "string",  # absolute; missing for what is no file
    "name": "string",  # the last part of the path
    "folder": "string",  # of a file; or the tar or table, with the folder in it
    "size": "int",  # bytes
    "modified": "timestamp",
    "mtime_ns": "int",  # the same, exactly
    "content": "string",  # SHA-256 of the bytes
    "width": "int",  # pixels
    "height": "int",
    "format": "string",  # jpeg, png, ...
    "taken": "timestamp",  # of EXIF
    "camera": "string",
    "added": "timestamp",
}
HIT = ("rank", "score")  # what a hit has beside its columns
SETTING = "settings."  # before the names of settings in the facts of the items


@dataclass(frozen=True)
class LibraryAbout:
    """What `library.json` holds."""

    model: str  # the source that was loaded: "mini", a path, a catalog name
    name: str  # of the model, for people
    space: str  # fingerprint: only vectors of one space may be compared
    exact: str  # fingerprint with precision and preprocessing
    embed: int  # values of a vector
    columns: Mapping[str, ColumnType] = field(default_factory=dict)  # of the user, beside ours
    settings: Mapping[str, str] = field(default_factory=dict)  # precision and preparation
    format: int = _FORMAT

    @property
    def items(self) -> str:
        """The name of the folder of the items."""
        return f"items-{self.space[:16]}"

    def schema(self) -> StoreSchema:
        """The schema of the items; all but `model` can be read from it again."""
        facts = {"space": self.space, "exact": self.exact, "model": self.name}
        for name, value in self.settings.items():
            if not isinstance(value, str):
                raise TypeError(f"the setting {name!r} is no text")
            facts[f"{SETTING}{name}"] = value
        return StoreSchema(self.embed, {**COLUMNS, **self.columns}, facts)


def write_about(folder: Path, about: LibraryAbout) -> None:
    """Write `library.json`, whole or not at all."""
    text = json.dumps(asdict(about), indent=1, ensure_ascii=False) + "\n"
    replace_file(folder / ABOUT, text_writer(text))


def is_unused(folder: Path) -> bool:
    """Whether a folder is empty, or holds only the beginning of a library that was killed then."""
    if not folder.is_dir():
        return False
    return all(path.name.startswith(("items-", f".{ABOUT}.")) for path in folder.iterdir())


def begin_again(folder: Path) -> None:
    """Make the folder of a library, without what a killed process left in it."""
    make_folder(folder)
    for path in folder.glob("items-*"):
        shutil.rmtree(path)


def check_current(folder: Path, about: LibraryAbout) -> None:
    """Raise unless a library still has the vectors that it had when it was opened.

    Raises:
        StorageError: another process changed its model.
    """
    if read_about(folder).items != about.items:
        raise StorageError(
            f"{folder} has the vectors of another model now, as another process embedded it anew; "
            "open it again and repeat this step."
        )


def read_about(folder: Path) -> LibraryAbout:
    """Read `library.json`.

    Raises:
        StorageError: the folder is no library, or a newer version wrote it.
        CorruptFileError: it is damaged.
    """
    path = folder / ABOUT
    if not path.is_file():
        lost = next(folder.glob("items-*"), None) is not None
        fix = (
            "`ecliptic library repair` writes it again"
            if lost
            else ("make one with `ecliptic index`, or check the path")
        )
        raise StorageError(f"{folder} is no library: it has no {ABOUT}; {fix}.")
    try:
        content: dict[str, Any] = read_json(path)
        version = content.get("format")
        if isinstance(version, int) and version > _FORMAT:
            raise StorageError(
                f"{path} has format {version}, this ecliptic reads {_FORMAT}; a newer version "
                "wrote it, so upgrade."
            )
        about = LibraryAbout(**content)
        about.schema()
        if version != _FORMAT:
            raise ValueError(f"its format is {version!r}")
    except (CorruptFileError, TypeError, ValueError) as error:
        raise CorruptFileError(
            f"{path} is damaged: {error}; `ecliptic library repair` writes it again."
        ) from None
    return about
