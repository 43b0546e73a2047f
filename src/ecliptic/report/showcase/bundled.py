"""The drawings that come with the package, and the questions of the demo (`drawings/`)."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ecliptic.report.questions import Picture, Query, Questions

FOLDER = Path(__file__).parents[1] / "drawings"
CREDIT = "FxEmojis by the Mozilla Foundation"
LICENCE = "CC BY 4.0"
LICENCE_URL = "https://creativecommons.org/licenses/by/4.0/"
CHANGES = "rendered at 96 pixels on white"


@cache
def bundled_questions() -> Questions:
    """Everything in `drawings/drawings.toml`."""
    table: dict[str, Any] = tomllib.loads((FOLDER / "drawings.toml").read_text(encoding="utf-8"))
    names = tuple(table["names"])
    return Questions(
        pictures=tuple(
            Picture(name, str(FOLDER / f"{name.replace(' ', '-')}.png"), small=True)
            for name in names
        ),
        queries=tuple(Query(q["text"], tuple(q["fits"])) for q in table["queries"]),
        labels=names,
        matrix=tuple(table["matrix"]),
        texts=tuple(table["texts"]),
        known=True,
        offered=len(names),
        less=tuple((text, unlike) for text, unlike in table["less"]),
        liked=tuple(table["liked"]),
    )
