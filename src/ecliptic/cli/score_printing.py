"""What `ecliptic score` prints and writes: the summary, the comparison, a row for each item."""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.output import (
    count,
    print_facts,
    print_json,
    print_table,
    print_text,
    print_wrapped,
    rejects_of,
    say,
    say_rejects,
)
from ecliptic.cli.rankings import SUFFIXES, csv_lines
from ecliptic.storage import replace_file, stream_writer

if TYPE_CHECKING:
    from ecliptic.engine import Rejects
    from ecliptic.scoring import PairedComparison
    from ecliptic.tasks import ScoredExample, ScoreSheet, ScoreSummary, SetScore

PerItem = Annotated[
    Path | None,
    typer.Option(
        "--per-item",
        metavar="FILE",
        help="Also write the score of each row to a .csv file, safe to open in a spreadsheet, or "
        "to a .jsonl file.",
    ),
]
DIGITS = 6  # of scores in files


def files_of_items(path: Path | None) -> list[Path]:
    """The files that go with the scores in `path`; a usage error for an unknown suffix."""
    if path is None:
        return []
    if path.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"--per-item {path} must end in {' or '.join(SUFFIXES)}.")
    return [path, rejects_of(path)]


def report_sheet(sheet: "ScoreSheet", notes: Sequence[str], listed: Path | None) -> None:
    """Say which rows were rejected, and other notes.

    `listed` is the file that will have all rejects, if one is written.
    """
    say_rejects(sheet.rejects, len(sheet.rejects), listed)
    for note in filter(None, notes):
        say(f"note: {note}")


def print_summary(summary: "ScoreSummary", *, json: bool) -> None:
    """Print the mean with its interval, and the worst and best rows."""
    if json:
        print_json(summary.to_json())
        return
    print_facts(summary.facts())
    _print_notes(summary.notes)
    columns = (*summary.run.metric.images, *summary.run.metric.texts)
    _print_examples("worst", summary.worst, columns)
    _print_examples("best", summary.best, columns)


def print_systems(
    sheet: "ScoreSheet", paths: Sequence[str], examples: int, level: float, seed: int, *, json: bool
) -> None:
    """Print two systems side by side, and the sentence that says which is better.

    One pair, or one group of them, has means, but neither an interval nor a test.
    """
    first, second = _names(paths)
    found = sheet.comparison(level, seed) if sheet.run().units != 1 else None
    notes, (leads, trails) = sheet.comparison_notes(), sheet.extremes(examples)
    if json:
        data = _systems_json(sheet, paths, level) | _comparison_json(found)
        data |= {"verdict": found.verdict(first, second) if found else None, "notes": list(notes)}
        data["leads"] = [one.to_json() for one in leads]
        print_json(data | {"trails": [one.to_json() for one in trails]})
        return
    print_facts(_systems_facts(sheet, found, first, second))
    if found:
        print_wrapped(found.verdict(first, second))
    _print_notes(notes)
    _print_examples(f"{first} leads most", leads, ("first", *sheet.metric.texts))
    _print_examples(f"{first} trails most", trails, ("first", *sheet.metric.texts))


def _systems_facts(
    sheet: "ScoreSheet", found: "PairedComparison | None", first: str, second: str
) -> dict[str, str]:
    run, means = sheet.run(), sheet.means()
    facts = {"metric": run.metric.name, f"mean of {first}": f"{means[0]:.4f}"}
    facts |= {f"mean of {second}": f"{means[1]:.4f}"}
    if found:
        facts["difference"] = f"{found.difference.value:+.4f}"
        if found.interval:
            facts["difference"] = found.interval.show_at(found.level, "{:+.4f}")
        facts["p"] = f"{found.p:.3g}, sign-flip test"
        wins = count(found.wins, "pair")
        facts["wins"] = f"{first} {wins}, {second} {found.losses:,}, same {found.ties:,}"
        if found.win_rate:
            facts["win rate"] = (
                f"{found.win_rate.show('{:.1%}')} for {first}, Wilson interval, without ties"
                + (", by group" if found.units < found.n else "")
            )
    facts["n"] = run.show_rows("pair")
    return facts | {"convention": run.metric.convention, "model": run.model}


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_wrapped(f"note: {note}")


def _print_examples(title: str, some: "Sequence[ScoredExample]", columns: Sequence[str]) -> None:
    """Print rows with their scores, after an empty line; nothing if there are none."""
    if some:
        print_text("")
        rows = [
            (f"{one.score:.4f}", *(one.row.get(name, one.row["row"]) for name in columns))
            for one in some
        ]
        heads = ["image" if name == "first" else name for name in columns]
        print_table(("score ", *heads), rows, title, wrap_last=True)


def _names(paths: Sequence[str]) -> tuple[str, str]:
    """The last parts of two paths, or the paths where those are the same."""
    names = [Path(path).name or path for path in paths]
    return (names[0], names[1]) if names[0] != names[1] else (paths[0], paths[1])


def _systems_json(sheet: "ScoreSheet", paths: Sequence[str], level: float) -> dict[str, Any]:
    run, means = sheet.run(), [round(mean, DIGITS) for mean in sheet.means()]
    return {
        "metric": run.metric.name,
        "convention": run.metric.convention,
        "prefix": run.prefix,
        "model": run.model,
        "space": run.space,
        "n": run.rows,
        "units": run.units,
        "first": {"path": paths[0], "mean": means[0]},
        "second": {"path": paths[1], "mean": means[1]},
        "level": level,
        "rejected": run.rejected,
        "cut": run.cut,
    }


_COMPARED = (  # what one pair alone does not have
    "difference",
    "interval",
    "p",
    "wins",
    "losses",
    "ties",
    "win_rate",
    "tells",
    "smallest",
    "needed",
)


def _comparison_json(found: "PairedComparison | None") -> dict[str, Any]:
    if found is None:
        return dict.fromkeys(_COMPARED)
    rate, gap = found.win_rate, found.interval
    values = (
        round(found.difference.value, DIGITS),
        [round(gap.low, DIGITS), round(gap.high, DIGITS)] if gap else None,
        found.p,
        found.wins,
        found.losses,
        found.ties,
        [rate.value, rate.low, rate.high] if rate else None,
        found.tells,
        found.smallest,
        found.needed,
    )
    return dict(zip(_COMPARED, values, strict=True))


def print_set_score(found: "SetScore", rejects: "Sequence[Rejects]", *, json: bool) -> None:
    """Print the score of two sets."""
    if json:
        print_json(found.to_json() | {"rejected": sum(map(len, rejects))})
        return
    print_facts(found.facts())
    _print_notes(found.notes)


def write_items(path: Path, sheet: "ScoreSheet") -> None:
    """Write a row for each score as CSV or JSONL, and the rejects beside it.

    Without any score, only the rejects are written.
    """
    sheet.rejects.write(rejects_of(path))
    if sheet.rejects:
        say(f"{count(len(sheet.rejects), 'reject')} in {rejects_of(path)}")
    if not sheet.complete:
        return
    lines = _csv_lines(sheet) if path.suffix.lower() == ".csv" else _json_lines(sheet)

    def write(file: IO[bytes]) -> None:
        file.writelines(line.encode(errors="backslashreplace") for line in lines)

    replace_file(path, stream_writer(write))
    say(f"{count(sheet.complete, 'score')} in {path}")


def _json_lines(sheet: "ScoreSheet") -> Iterator[str]:
    for row in sheet.rows():
        yield json.dumps({name: _rounded(value) for name, value in row.items()}) + "\n"


def _csv_lines(sheet: "ScoreSheet") -> Iterator[str]:
    columns = sheet.columns()
    rows = ([_cell(row.get(name, "")) for name in columns] for row in sheet.rows())
    return csv_lines(chain([columns], rows))


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else _rounded(value)


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value
