"""Printing: results on stdout, messages on stderr, and with --json only JSON on stdout.

Names, texts and answers of files and of the network may hold characters that control a terminal, so
everything but JSON goes through `printable` here; commands never call `print`. A newline inside a
value is escaped as well, because it could imitate a line of ours. Rich, which knows how wide a
character is, is imported when a table is printed, so that `--version` stays fast.
"""

import json
import os
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecliptic.cli.wording import name_flags
from ecliptic.errors import printable

if TYPE_CHECKING:
    from ecliptic.engine import Rejects
    from ecliptic.runtime import Choice

GAP = 2  # spaces between the columns of a table
PIPED = 160  # columns of a pipe
NARROWEST = 20  # columns of wrapped text
MOST_REJECTS = 20  # lines on stderr
MOST_ROWS = 20  # of a table that a file can have in full


def say(message: object, *, lines: bool = False) -> None:
    """Print a message on stderr; its newlines are escaped unless `lines`."""
    print(printable(message, lines=lines), file=sys.stderr)


def say_rejects(rejects: "Rejects", shown: int | None = None, listed: Path | None = None) -> None:
    """Print the first rejects on stderr, and the number of the others.

    With `shown` they are at most so many and at most `MOST_REJECTS`, and `listed` is a file that
    has all of them, if there is one; without it, they are few, because the rejects file has all.
    """
    lines = rejects.lines()
    if shown is not None:
        lines = rejects.lines(min(shown, MOST_REJECTS), f"all are in {listed}" if listed else "")
    for line in lines:
        say(name_flags(line))


def print_text(text: object, *, lines: bool = False) -> None:
    """Print a text on stdout; its newlines are escaped unless `lines`."""
    print(printable(text, lines=lines))


def print_names0(names: Iterable[str]) -> None:
    """Print names of files as they are, each ended by NUL, for `xargs -0`."""
    sys.stdout.flush()
    for name in names:
        sys.stdout.buffer.write(os.fsencode(name) + b"\0")
    sys.stdout.buffer.flush()


def print_wrapped(text: object) -> None:
    """Print a text on stdout, wrapped at spaces to a terminal; for a pipe it is one line."""
    room = sys.maxsize if _is_piped() else max(terminal_width(), NARROWEST)
    for line in _wrap(printable(text), room):
        print_text(line)


def print_json(data: Any) -> None:
    """Print `data` on stdout, in ASCII, so it is valid in any locale and for any file name."""
    print(json.dumps(data, indent=2).replace("\x7f", r"\u007f"))  # the one control that JSON allows


def print_event(data: Any) -> None:
    """Print `data` as one line of JSON on stdout, at once: a program may wait for it."""
    print(json.dumps(data).replace("\x7f", r"\u007f"), flush=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    title: str = "",
    *,
    wrap_last: bool = False,
) -> None:
    """Print a table on stdout; a column whose name ends in a space is right-aligned.

    No cell is split, but with `wrap_last` the last column is wrapped at spaces. If the table does
    not fit into the terminal, each row is a block with a line per cell.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if title:
        print_text(title)
    if table_fits(columns, cells, wrap_last=wrap_last):
        _print_grid(columns, cells)
        return
    heads = [column.rstrip() for column in columns]
    for number, row in enumerate(cells):
        if number:
            print_text("")
        print_facts({head: cell for head, cell in zip(heads, row, strict=True) if cell})


def print_first(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    out: Path | None,
    shown: int = MOST_ROWS,
) -> None:
    """Print a table of the first rows, if there are any, and where to find the others.

    `out` is the file of --out, which has all of them.
    """
    if rows:
        print_table(columns, rows[:shown])
    if (more := len(rows) - shown) > 0:
        print_text(f"and {more:,} more; {f'{out} has' if out else '--out FILE writes'} all")


def table_fits(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrap_last: bool = False
) -> bool:
    """Whether `print_table` prints these printable rows in columns."""
    from rich.cells import cell_len

    widths = [cell_len(printable(column.rstrip())) for column in columns]
    for row in rows:
        *cells, last = row
        if wrap_last:
            last = max(last.split() or [""], key=cell_len)
        widths = [max(pair) for pair in zip(widths, map(cell_len, (*cells, last)), strict=True)]
    return sum(widths) + GAP * (len(widths) - 1) <= terminal_width()


def _print_grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len

    lines = [[printable(column.rstrip()) for column in columns], *rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    before = sum(widths[:-1]) + GAP * (len(widths) - 1)
    widths[-1] = min(widths[-1], terminal_width() - before)
    for *cells, last in lines:
        first, *others = _wrap(last, widths[-1])
        padded = map(_pad, (*cells, first), widths, columns)
        print_text((" " * GAP).join(padded).rstrip())
        for line in others:
            print_text(" " * before + line)


def _pad(cell: str, width: int, column: str) -> str:
    from rich.cells import cell_len

    missing = " " * (width - cell_len(cell))
    return missing + cell if column.endswith(" ") else cell + missing


def _wrap(text: str, width: int) -> list[str]:
    """The lines of a text, split only at spaces; one that fits is left as it is."""
    if len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def terminal_width() -> int:
    """The columns of the terminal; many for a pipe, unless COLUMNS is set."""
    return PIPED if _is_piped() else shutil.get_terminal_size().columns


def _is_piped() -> bool:
    return not sys.stdout.isatty() and "COLUMNS" not in os.environ


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values on stdout, one per line; long values are wrapped at spaces."""
    names = [printable(name) for name in facts]
    width = max(map(len, names)) + GAP
    room = sys.maxsize if _is_piped() else max(terminal_width() - width, NARROWEST)
    for name, value in zip(names, facts.values(), strict=True):
        first, *others = _wrap(printable(value), room)
        print_text(f"{name:<{width}}{first}")
        for line in others:
            print_text(" " * width + line)


def print_choices(choices: "Iterable[Choice]") -> None:
    """Print what a runtime chose, and why, in the words of the command line."""
    print_facts({one.what: name_flags(f"{one.chosen} ({one.why})") for one in choices})


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number of things: "1 vector", "2,000 vectors"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rejects_of(out: Path) -> Path:
    """The file that lists the items that could not be used, beside the output `out`."""
    return Path(f"{out}.rejects.jsonl")


def on_terminal() -> bool:
    """Whether stderr is a terminal, which can show a progress bar."""
    return sys.stderr.isatty()


def shorten_warnings() -> None:
    """Print warnings as one line on stderr, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        say(f"warning: {name_flags(message)}")

    warnings.showwarning = show


def print_traceback() -> None:
    """Print the traceback of the error that is being handled on stderr."""
    say(traceback.format_exc().rstrip("\n"), lines=True)


def escape_unknown_characters() -> None:
    """Escape characters that the encoding of the terminal lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
