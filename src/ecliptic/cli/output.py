"""Where words go: results on stdout, talk on stderr, JSON alone when JSON is asked for.

Rich is imported when something is printed, so that `--version` stays quick.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def say(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr)


def print_json(data: Any) -> None:
    """`data` on stdout; all ASCII, so it is valid in any locale and for any file name."""
    print(json.dumps(data, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table on stdout; columns whose name ends in a space stand right-aligned."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        right = column.endswith(" ")
        table.add_column(column.rstrip(), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    console().print(table)


def print_facts(facts: dict[str, object]) -> None:
    """Names and values, one a line, on stdout."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def console() -> "Console":
    """A rich console on stdout; when piped it is as wide as its tables need."""
    from rich.console import Console

    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(width=160 if piped else None, highlight=False)


def on_terminal() -> bool:
    """Whether somebody is watching stderr, so that a progress bar makes sense."""
    return sys.stderr.isatty()


def plain_warnings() -> None:
    """From now on warnings are one line on stderr, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    warnings.showwarning = show


def tolerant_streams() -> None:
    """From now on characters that a terminal's encoding lacks are escaped, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
