"""Flags that name a library and its model, for the commands that read or fill one."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.completion import complete_models
from ecliptic.cli.flags import MODEL_HELP, ModelFlags
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from ecliptic.engine import Clip
    from ecliptic.library import Library

USUAL = Path("ecliptic.library")  # in the current folder
WHERE_HELP = (
    "Only pictures that pass a filter: 'width >= 640 and folder contains \"cats\"'; see "
    "`ecliptic library info`."
)
Where = Annotated[str | None, typer.Option(help=WHERE_HELP, metavar="FILTER")]
LibraryArgument = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the library.")]
PathsOnly = Annotated[
    bool, typer.Option("--paths0", help="Print only paths, each ended by NUL, for xargs -0.")
]


@dataclasses.dataclass(frozen=True)
class LibraryModelFlags(ModelFlags):
    """The model of a library; "" is the one that made it."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help=MODEL_HELP,
            autocompletion=complete_models,
            show_default="that of the library; mini for a new one",
        ),
    ] = ""

    def clip_of(self, model: str) -> "Clip":
        """The model that was named, or else `model`, loaded with these flags."""
        return self.clip(self.model or model)

    def changed(self) -> bool:
        """Whether any flag was given."""
        return any(getattr(self, f.name) != f.default for f in dataclasses.fields(self))


def is_library(path: Path) -> bool:
    """Whether there is a library in the folder `path`."""
    return os.path.isfile(path / "library.json")  # noqa: PTH113 Path fails on long names


def shorten(name: str) -> str:
    """The id of a picture for people: a path relative to the current folder, if it is below it."""
    return name.removeprefix(f"{Path.cwd()}{os.sep}")


def open_library(path: Path, model: LibraryModelFlags | None = None) -> "Library":
    """Open a library, with its own model or with the one of the flags.

    Raises:
        InputError: there is none at the usual place, and no path was given.
    """
    from ecliptic.library import Library

    if path == USUAL and not is_library(path):
        raise InputError(
            f"there is no library in the current folder ({USUAL}); make one with `ecliptic index "
            'FOLDER`, or name one: ecliptic search photos.library "a red fox".'
        )
    library = Library.open(path)
    if model is not None and model.changed():
        library.use(model.clip_of(library.about.model))
    return library
