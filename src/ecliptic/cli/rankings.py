"""Answers of the commands that rank: printed for people, or written to a CSV or JSONL file.

No name is split: a table is printed only where it fits, else one block per item.
"""

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.output import print_table, print_text, rejects_of, say, table_fits
from ecliptic.errors import printable
from ecliptic.storage import replace_file, text_writer

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.engine import Rejects

ResultsFile = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="Also write the results to a .csv file, safe to open in a spreadsheet, or to a "
        ".jsonl file.",
    ),
]
SUFFIXES = (".csv", ".jsonl")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # begin what a spreadsheet would compute


@dataclass(frozen=True)
class Ranking:
    """An item, and what fits it best: names with their values, best first."""

    name: str
    best: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class RankingKind:
    """What a command ranks: the words of its files, and how a value looks on a terminal."""

    item: str  # "image"
    match: str  # "label"
    value: str  # "probability"
    digits: int  # after the decimal point, in a file
    pattern: str  # of a value on a terminal

    def to_json(self, ranking: Ranking) -> dict[str, Any]:
        """A ranking as an object."""
        best = [
            {self.match: name, self.value: round(value, self.digits)}
            for name, value in ranking.best
        ]
        return {self.item: ranking.name, f"{self.match}s": best}

    def show(self, value: float) -> str:
        """A value as a terminal shows it."""
        return self.pattern.format(value)


def rank(
    names: Iterable[str], values: "Tensor", others: Sequence[str], best: int
) -> Iterator[Ranking]:
    """The `best` of the `others` for each row of `values`, (rows, others)."""
    found = values.topk(min(best, len(others)))
    rows = zip(names, found.indices.tolist(), found.values.tolist(), strict=True)
    for name, places, numbers in rows:
        pairs = zip(places, numbers, strict=True)
        yield Ranking(name, tuple((others[place], number) for place, number in pairs))


def print_matrix(
    names: Sequence[str],
    columns: Sequence[str],
    values: Iterable[Sequence[float]],
    kind: RankingKind,
) -> bool:
    """Print a table of `values` if it fits into the terminal; returns whether it did."""
    heads = ("", *(f"{column} " for column in columns))
    rows = [
        (printable(name), *map(kind.show, row)) for name, row in zip(names, values, strict=True)
    ]
    fits = table_fits(heads, rows)
    if fits:
        print_table(heads, rows)
    return fits


def print_blocks(rankings: Iterable[Ranking], kind: RankingKind, best: int) -> None:
    """Print each item in a line, and below it a line for each of its `best` matches."""
    for number, one in enumerate(rankings):
        if number:
            print_text("")
        print_text(one.name)
        shown = [(kind.show(value), name) for name, value in one.best[:best]]
        width = max((len(value) for value, _ in shown), default=0)
        for value, name in shown:
            print_text(f"  {value:>{width}}  {name}")


def files_of(path: Path | None) -> list[Path]:
    """The files that go with the results in `path`; a usage error for an unknown suffix."""
    if path is None:
        return []
    if path.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"--out {path} must end in {' or '.join(SUFFIXES)}.")
    return [path, rejects_of(path)]


def write_rankings(
    path: Path, rankings: Sequence[Ranking], kind: RankingKind, rejects: "Rejects"
) -> None:
    """Write a row for each item and match as CSV, or an object for each item as JSONL.

    The rejects are listed beside it.
    """
    if path.suffix.lower() == ".csv":
        text = _rankings_to_csv(rankings, kind)
    else:
        text = _to_lines(map(kind.to_json, rankings))
    _write(path, text, rejects)


def write_table(
    path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], rejects: "Rejects"
) -> None:
    """Write rows with these columns as CSV or JSONL, and the rejects beside it."""
    if path.suffix.lower() == ".csv":
        text = _to_csv(columns, ([row[name] for name in columns] for row in rows))
    else:
        text = _to_lines(rows)
    _write(path, text, rejects)


def _write(path: Path, text: str, rejects: "Rejects") -> None:
    replace_file(path, text_writer(text))
    rejects.write(rejects_of(path))
    say(f"results in {path}")


def _to_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _rankings_to_csv(rankings: Sequence[Ranking], kind: RankingKind) -> str:
    rows = (
        (one.name, place, name, round(value, kind.digits))
        for one in rankings
        for place, (name, value) in enumerate(one.best, start=1)
    )
    return _to_csv((kind.item, "rank", kind.match, kind.value), rows)


def _to_csv(columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    return "".join(csv_lines(itertools.chain([columns], rows)))


def csv_lines(rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    """A line of CSV for each row, safe to open in a spreadsheet."""
    for row in rows:
        file = io.StringIO()
        # every text in quotes: without them, csv leaves a carriage return as an end of line
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow([escape_formula(cell) if isinstance(cell, str) else cell for cell in row])
        yield file.getvalue()


def escape_formula(text: str) -> str:
    """A text that a spreadsheet shows and never computes: a quote before =, +, -, @ and the like.

    Source: OWASP, CSV Injection. Numbers of ours are not texts and stay as they are.
    """
    return f"'{text}" if text.startswith(FORMULA) else text
