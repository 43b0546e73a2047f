"""`ecliptic captions`: encode a table of captions into a cache folder, verify and repair it."""

import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ecliptic.cli.encoders import EncoderFlags, ReadingFlags
from ecliptic.cli.exits import FAILED, INTERRUPTED, REJECTED, leave
from ecliptic.cli.flags import Force, Json, expands
from ecliptic.cli.help import HelpfulCommand
from ecliptic.cli.output import (
    count,
    on_terminal,
    print_json,
    print_table,
    rejects_of,
    say,
    say_rejects,
)
from ecliptic.errors import EclipticError, InputError

if TYPE_CHECKING:
    from ecliptic.diffusion import CacheReport, Caption, Conditioner, Findings
    from ecliptic.engine import Item, Rejects

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Encode tables of captions into a folder; verify and repair it.",
)


@dataclasses.dataclass(frozen=True)
class TableFlags:
    """How to read a table of captions, and how to store its conditionings."""

    column: Annotated[str, typer.Option(help="Column with the captions.")] = "caption"
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column with the ids.", show_default="the caption")
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Captions per batch.")] = 32
    store: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(help="Dtype to store.", show_default="as computed"),
    ] = None


Folder = Annotated[Path, typer.Argument(metavar="CACHE", help="Folder that `captions write` made.")]


@app.command(cls=HelpfulCommand)
@expands
def write(
    *,
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE", help="Captions: .csv, .tsv, .jsonl, .parquet, or - for lines on stdin."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the cache.", metavar="CACHE")],
    encoders: EncoderFlags,
    reading: ReadingFlags,
    columns: TableFlags,
    force: Force = False,
    json: Json = False,
) -> None:
    """Encode each different caption of a table once, into a folder.

    A new run continues where the last one ended. Captions that cannot be used are listed on stderr
    and in CACHE.rejects.jsonl, and the exit code is 3. A list without its CACHE is replaced only by
    --force.
    """
    if table == "-" and (columns.column, columns.id_column) != (TableFlags.column, None):
        raise typer.BadParameter("--column and --id are for tables; standard input has lines.")
    check_captions_paths(table, out, encoders, force=force)
    write_captions(table, encoders.conditioner(), out, columns, reading.how, json=json)


@app.command(cls=HelpfulCommand)
@expands
def verify(
    *, folder: Folder, encoders: EncoderFlags, reading: ReadingFlags, json: Json = False
) -> None:
    """Check the index and every byte of a folder that was written.

    The exit code is 1 if an entry is wrong or a shard is missing. With --for and --encoders, only
    the entries of this model and these settings are checked; the others are counted.
    """
    check_captions(folder, encoders, reading, repair=False, json=json)


@app.command(cls=HelpfulCommand)
@expands
def repair(
    *,
    folder: Folder,
    encoders: EncoderFlags,
    reading: ReadingFlags,
    remove_others: Annotated[
        bool, typer.Option("--remove-others", help="Remove the entries of other settings too.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove the entries that `captions verify` finds wrong.

    The next `captions write` computes them again. With --for and --encoders, entries of another
    model or of other settings are left as they are, unless --remove-others is given.
    """
    check_captions(folder, encoders, reading, repair=True, remove_others=remove_others, json=json)


def write_captions(
    path: str,
    conditioner: "Conditioner",
    out: Path,
    columns: TableFlags,
    how: dict[str, Any],
    *,
    json: bool,
) -> None:
    """Store the conditioning of each caption of the table `path` in the folder `out`."""
    from ecliptic.diffusion import Watch, write_cache
    from ecliptic.engine import Columns, Rejects, count_items, progress_bar, read_items
    from ecliptic.inputs import TruncationWarning

    rejects = Rejects()

    def reject(caption: "Caption", error: EclipticError) -> None:
        rejects.add(caption.index, caption.id, error)

    table = Columns(columns.column, columns.id_column, "text")
    items, total = read_items(path, table), count_items(path, table) if on_terminal() else None
    with progress_bar("captions", total, show=on_terminal()) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # counted below
        report = write_cache(
            conditioner,
            _read_captions(items, rejects),
            out,
            batch_size=columns.batch_size,
            dtype=columns.store,
            watch=Watch(advance, reject, stop_quietly=True),
            **how,
        )
    rejects.write(rejects_of(out))
    _report(report, rejects, out)
    if json:
        about = {**dataclasses.asdict(report), "rejected": rejects.to_json()}
        print_json({"out": str(out), **about})
    leave(INTERRUPTED, when=report.interrupted)
    leave(REJECTED, when=len(rejects) > 0)


def check_captions(
    folder: Path,
    encoders: EncoderFlags,
    reading: ReadingFlags,
    *,
    repair: bool,
    remove_others: bool = False,
    json: bool,
) -> None:
    """Report everything that is wrong in the cache `folder`; exit with 1 if it is not repaired."""
    from ecliptic.diffusion import verify_cache
    from ecliptic.engine import progress_bar

    conditioner = encoders.conditioner() if encoders.family or encoders.encoders else None
    unused = [*reading.how, *encoders.given(), *(["remove_others"] if remove_others else [])]
    if conditioner is None and unused:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise typer.BadParameter(
            f"{flags} needs a model, to tell its entries from others; add --for and --encoders."
        )
    shards = sum(1 for _ in folder.glob("cond-*.safetensors"))
    with progress_bar("shards", shards or None, show=on_terminal()) as advance:
        found = verify_cache(
            folder,
            conditioner,
            repair=repair,
            remove_others=remove_others,
            advance=advance,
            **reading.how,
        )
    if json:
        names = ("ok", "shards", "entries", "others", "removed", "added", "repaired")
        summary = {name: getattr(found, name) for name in names}
        print_json(summary | {"findings": [one.to_json() for one in found]})
    elif not found.ok:
        rows = [(one.kind, one.shard, one.key[:12], one.detail) for one in found]
        print_table(("what", "shard", "key", ""), rows, wrap_last=True)
    _report_check(found)
    leave(FAILED, when=not found.ok and not repair)


def _report_check(found: "Findings") -> None:
    """Print the summary of a check."""
    if found.added:
        say(f"note: {count(len(found.added), 'shard')} not in the index before, now added")
    kept = {"newer", "number", "stale"}  # of a whole shard or folder, which a repair leaves
    repaired = found.repaired and any(one.kind not in kept for one in found)
    say(
        f"{count(found.entries, 'prompt')} in {count(found.shards, 'shard')}, "
        + (f"other settings: {found.others:,}, " if found.others else "")
        + (f"removed: {found.removed:,}, " if found.removed else "")
        + count(len(found), "finding")
        + ", removed; `captions write` computes them again" * repaired
    )


def check_captions_paths(path: str, out: Path, encoders: EncoderFlags, *, force: bool) -> None:
    """Raise before the work if `path` is no table of captions, or nothing can be written."""
    from ecliptic.cli.texts import refuse_missing_files
    from ecliptic.engine import STDIN, is_table
    from ecliptic.storage import check_folder, check_outputs

    if not (is_table(path) or path == STDIN):
        raise typer.BadParameter(
            f"{path} is not a table of captions (.csv, .tsv, .jsonl, .parquet, or - for stdin); "
            "`ecliptic condition` takes a prompt."
        )
    encoders.named()
    if path != STDIN:
        refuse_missing_files([path])
    own = force or out.is_dir()  # a run that goes on replaces the list of the one before
    check_outputs([rejects_of(out)], [path, *encoders.paths()], force=own, make_folders=True)
    check_folder(out, make=True)


def _read_captions(items: "Iterable[Item]", rejects: "Rejects") -> "Iterator[Caption]":
    from ecliptic.diffusion import Caption

    for index, item in enumerate(items):
        if item.error is not None:
            rejects.add(index, item.name, item.error)
        else:
            yield Caption(item.name, str(item.value), index)


def _report(report: "CacheReport", rejects: "Rejects", out: Path) -> None:
    say_rejects(rejects)
    if report.truncated:
        lost = count(report.truncated, "prompt")
        say(f"warning: {lost} lost words; --long chunk keeps all words")
    if report.torn:
        say(
            f"warning: {count(len(report.torn), 'shard')} of {out} cannot be read; `ecliptic "
            f"captions repair {out}` removes what is damaged"
        )
    if report.interrupted:
        say("interrupted; the finished prompts are kept")
    elif rejects and not report.written + report.reused:
        raise InputError(f"none of the captions could be used: {len(rejects):,} rejected.")
    say(
        f"{count(report.written, 'prompt')} written to {out}; {report.reused:,} already there, "
        f"{report.duplicates:,} repeated"
    )
