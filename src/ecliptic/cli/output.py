"""Printing: results on stdout, messages on stderr, and with --json only JSON on stdout.

Rich is imported when something is printed, so that `--version` stays fast.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def say(message: str) -> None:
    """Print a line for people on stderr."""
    print(message, file=sys.stderr)


def print_json(data: Any) -> None:
    """Print `data` on stdout, in ASCII, so it is valid in any locale and for any file name."""
    print(json.dumps(data, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table on stdout; a column whose name ends in a space is right-aligned."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        right = column.endswith(" ")
        table.add_column(column.rstrip(), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    Console(width=160 if piped else None, highlight=False).print(table)


def print_facts(facts: dict[str, object]) -> None:
    """Print names and values on stdout, one per line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def rejects_of(out: Path) -> Path:
    """The file that lists the items that could not be used, beside the output `out`."""
    return Path(f"{out}.rejects.jsonl")


def on_terminal() -> bool:
    """Whether stderr is a terminal, which can show a progress bar."""
    return sys.stderr.isatty()


def shorten_warnings() -> None:
    """Print warnings as one line on stderr, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {message}")

    warnings.showwarning = show


def escape_unknown_characters() -> None:
    """Escape characters that the encoding of the terminal lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
