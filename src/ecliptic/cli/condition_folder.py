"""The work behind `ecliptic condition` on folders: filling a cache from a table, checking it."""

import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecliptic.cli.exits import FAILED, INTERRUPTED, REJECTED, leave
from ecliptic.cli.output import on_terminal, print_json, print_table, say
from ecliptic.diffusion import Caption, Watch, verify_cache, write_cache
from ecliptic.engine import Columns, Item, Rejects, progress_bar, read_items
from ecliptic.errors import EclipticError, InputError
from ecliptic.inputs import TruncationWarning

if TYPE_CHECKING:
    from ecliptic.cli.condition import TableOptions
    from ecliptic.diffusion import CacheReport, Conditioner, Findings


@dataclasses.dataclass(frozen=True)
class Numbered(Caption):
    """A caption and its place in the table."""

    index: int


def fill(
    path: str,
    conditioner: "Conditioner",
    out: Path,
    table: "TableOptions",
    how: dict[str, Any],
    *,
    json: bool,
) -> None:
    """Keep the conditioning of each caption of the table `path` in the folder `out`."""
    rejects = Rejects()

    def reject(caption: Caption, error: EclipticError) -> None:
        index = caption.index if isinstance(caption, Numbered) else -1
        rejects.add(index, caption.id, error)

    items = read_items(path, Columns(table.column, table.id_column, "text"))
    with progress_bar("captions", None, show=on_terminal()) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # counted below
        report = write_cache(
            conditioner,
            _captions(items, rejects),
            out,
            batch_size=table.batch_size,
            dtype=table.store,
            watch=Watch(advance, reject, stop_quietly=True),
            **how,
        )
    rejects.write(Path(f"{out}.rejects.jsonl"))
    _report(report, rejects, out)
    if json:
        about = {**dataclasses.asdict(report), "rejected": rejects.to_json()}
        print_json({"out": str(out), **about})
    leave(INTERRUPTED, when=report.interrupted)
    leave(REJECTED, when=len(rejects) > 0)


def check(
    folder: Path,
    conditioner: "Conditioner | None",
    how: dict[str, Any],
    *,
    repair: bool,
    json: bool,
) -> None:
    """Report all that is wrong in the cache `folder`; exit code 1 if it stays."""
    with progress_bar("shards", None, show=on_terminal()) as advance:
        options = how if conditioner is not None else {}
        found = verify_cache(folder, conditioner, repair=repair, advance=advance, **options)
    if json:
        print_json(_summary(found))
    elif not found.ok:
        rows = [(one.kind, one.shard, one.key[:12], one.detail) for one in found]
        print_table(("what", "shard", "key", ""), rows)
    say(
        f"{found.entries} prompts in {found.shards} shards, {len(found)} findings"
        + ", removed; run again to compute what is missing" * (repair and not found.ok)
    )
    leave(FAILED, when=not found.ok and not repair)


def _captions(items: Iterable[Item], rejects: Rejects) -> Iterator[Caption]:
    for index, item in enumerate(items):
        if item.error is not None:
            rejects.add(index, item.name, item.error)
        else:
            yield Numbered(item.name, str(item.value), index)


def _report(report: "CacheReport", rejects: Rejects, out: Path) -> None:
    for line in rejects.lines():
        say(line)
    if report.truncated:
        say(f"warning: {report.truncated} prompts lost words; --long chunk keeps all")
    if report.torn:
        say(
            f"warning: {len(report.torn)} shards of {out} cannot be read; --verify --repair "
            "removes them"
        )
    if report.interrupted:
        say("interrupted; keeping what is done")
    elif rejects and not report.written + report.reused:
        raise InputError(f"none of the {len(rejects)} captions could be used.")
    say(
        f"{report.written} prompts written to {out}, {report.reused} captions there before, "
        f"{report.duplicates} of equal text"
    )


def _summary(found: "Findings") -> dict[str, object]:
    return {
        "ok": found.ok,
        "shards": found.shards,
        "entries": found.entries,
        "repaired": found.repaired,
        "findings": [one.to_json() for one in found],
    }
