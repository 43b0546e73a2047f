"""Printing: results on stdout, messages on stderr, and with --json only JSON on stdout.

Names, texts and answers of files and of the network may hold characters that control a terminal, so
everything but JSON goes through `printable` here; commands never call `print`. A newline inside a
value is escaped as well, because it could imitate a line of ours. Rich is imported when something
is printed, so that `--version` stays fast.
"""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ecliptic.errors import printable


def say(message: object, *, lines: bool = False) -> None:
    """Print a message on stderr; its newlines are escaped unless `lines`."""
    print(printable(message, lines=lines), file=sys.stderr)


def print_text(text: object, *, lines: bool = False) -> None:
    """Print a text on stdout; its newlines are escaped unless `lines`."""
    print(printable(text, lines=lines))


def print_json(data: Any) -> None:
    """Print `data` on stdout, in ASCII, so it is valid in any locale and for any file name."""
    print(json.dumps(data, indent=2).replace("\x7f", r"\u007f"))  # the one control that JSON allows


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table on stdout; a column whose name ends in a space is right-aligned.

    Names of columns, cells and the title are shown as they are, not as rich's markup.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown_title = Text(printable(title), style="table.title") if title else None
    table = Table(title=shown_title, title_justify="left")
    for column in columns:
        right = column.endswith(" ")
        heading = Text(printable(column.rstrip()))
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    Console(width=160 if piped else None, highlight=False).print(table)


def print_facts(facts: dict[str, object]) -> None:
    """Print names and values on stdout, one per line."""
    names = [printable(name) for name in facts]
    width = max(map(len, names))
    for name, value in zip(names, facts.values(), strict=True):
        print_text(f"{name:<{width}}  {value}")


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


def print_traceback() -> None:
    """Print the traceback of the error that is being handled on stderr."""
    say(traceback.format_exc().rstrip("\n"), lines=True)


def escape_unknown_characters() -> None:
    """Escape characters that the encoding of the terminal lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
