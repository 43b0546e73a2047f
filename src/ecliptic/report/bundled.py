"""The drawings that come with the package, and the questions of the demo (`drawings/`)."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("drawings")
CREDIT = "FxEmojis by the Mozilla Foundation"
LICENCE = "CC BY 4.0"
LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
CHANGES = "rendered at 96 pixels on white"


@dataclass(frozen=True)
class Drawing:
    """One bundled drawing."""

    name: str  # of the subject; also its label
    path: Path


@dataclass(frozen=True)
class Query:
    """A text to search with, and the names of the correct drawings."""

    text: str
    fits: tuple[str, ...]


@dataclass(frozen=True)
class Questions:
    """The questions of the demo; all names are names of drawings."""

    drawings: tuple[Drawing, ...]
    queries: tuple[Query, ...]
    like: tuple[str, ...]  # drawings to find neighbours of
    matrix: tuple[str, ...]  # drawings in the matrix of cosines
    texts: tuple[str, ...]  # texts whose tokens are shown

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all drawings, in order."""
        return tuple(drawing.name for drawing in self.drawings)

    def places(self, names: tuple[str, ...]) -> list[int]:
        """The positions of `names` among the drawings."""
        return [self.names.index(name) for name in names]


@cache
def bundled() -> Questions:
    """Everything in `drawings/drawings.toml`."""
    table: dict[str, Any] = tomllib.loads((FOLDER / "drawings.toml").read_text(encoding="utf-8"))
    return Questions(
        drawings=tuple(
            Drawing(name, FOLDER / f"{name.replace(' ', '-')}.png") for name in table["names"]
        ),
        queries=tuple(Query(q["text"], tuple(q["fits"])) for q in table["queries"]),
        like=tuple(table["like"]),
        matrix=tuple(table["matrix"]),
        texts=tuple(table["texts"]),
    )
