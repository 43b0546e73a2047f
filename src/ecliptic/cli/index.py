"""`ecliptic index`: put pictures into a library, or bring it up to date."""

import dataclasses
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ecliptic.cli.exits import INTERRUPTED, REJECTED, checks_usage, leave
from ecliptic.cli.flags import Json, expands
from ecliptic.cli.library_flags import USUAL, LibraryModelFlags, is_library, open_library, shorten
from ecliptic.cli.output import MOST_REJECTS, count, on_terminal, print_json, say
from ecliptic.cli.sources import ImageSources, Paths
from ecliptic.errors import EclipticError, InputError

if TYPE_CHECKING:
    from ecliptic.engine import Columns
    from ecliptic.index import ColumnType
    from ecliptic.library import AddSummary, Library

MOST_GONE = 5  # of the files that are no longer there, named one by one


@dataclasses.dataclass(frozen=True)
class IndexSources(ImageSources):
    """Pictures to index."""

    inputs: Paths = None
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of the tables to keep and filter by, with its type (string, int, float, "
            "bool, timestamp): year:int. A new library gets these columns.",
            metavar="NAME[:TYPE]",
        ),
    ] = None

    takes_vectors = False

    def kept(self) -> "dict[str, ColumnType]":
        """The columns of --keep and their types."""
        from ecliptic.index import check_column_types

        pairs = (text.partition(":") for text in self.keep or ())
        found = {name: kind or "string" for name, _, kind in pairs}
        with checks_usage():
            check_column_types(found)
        return cast("dict[str, ColumnType]", found)

    def columns(self) -> "Columns":
        """The columns of tables that are read."""
        return dataclasses.replace(super().columns(), facts=tuple(self.kept()))

    def check(self, vanished: Collection[str] = (), *, other_table: bool = False) -> None:
        """Raise before the work as for images, and if --keep has nothing to keep from."""
        super().check(vanished, other_table=other_table)
        from ecliptic.engine import is_table, read_items

        tables = [path for path in self.inputs or () if is_table(path)]
        if self.keep and not tables:
            raise typer.BadParameter("--keep is for tables, and no PATH is one.")
        for table in tables:
            if table not in vanished:
                next(iter(read_items(table, self.columns())), None)  # raises for a wrong column


@dataclasses.dataclass(frozen=True)
class UpdateFlags:
    """What to do with a library."""

    prune: Annotated[
        bool, typer.Option("--prune", help="Remove pictures whose files are gone.")
    ] = False
    prune_all: Annotated[
        bool,
        typer.Option(
            "--prune-all",
            help="The same, also where a folder is empty or gone, as a disk that is not connected.",
        ),
    ] = False
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was rejected before.")] = (
        False
    )
    reembed: Annotated[
        bool,
        typer.Option("--reembed", help="Embed all pictures anew with --model; no PATH is needed."),
    ] = False
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures per batch.")] = None

    def check(self, sources: IndexSources, model: LibraryModelFlags, library: Path) -> None:
        """Raise before the work for flags that do nothing, and for paths of nothing."""
        if model.cache is not None:
            raise typer.BadParameter("--cache does nothing here: the library keeps the vectors.")
        if not self.reembed:
            sources.check(_find_vanished(sources, library))
            _check_prune(sources, prune=self.prune or self.prune_all)
            return
        unused = {"--prune": self.prune, "--prune-all": self.prune_all, "--retry": self.retry}
        unused["--batch-size"] = self.batch_size is not None
        _check_reembed(sources, model, [flag for flag, given in unused.items() if given])

    def run(
        self, library: "Library", sources: IndexSources, model: LibraryModelFlags
    ) -> "AddSummary":
        """Bring the library up to date, with a bar on a terminal."""
        from ecliptic.engine import progress_bar

        total = len(library) if self.reembed else None
        if on_terminal() and not self.reembed:
            total = sources.count(sources.inputs or ())
        with progress_bar("pictures", total, show=on_terminal()) as advance:
            if self.reembed:
                return library.reembed(model.clip_of(""), advance, source=model.model)
            return library.add(
                sources.inputs or [],
                columns=sources.columns(),
                prune="all" if self.prune_all else self.prune,
                retry=self.retry,
                batch_size=self.batch_size,
                advance=advance,
            )


@expands
def index(
    *,
    sources: IndexSources,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the library.", metavar="LIBRARY")
    ] = USUAL,
    update: UpdateFlags,
    model: LibraryModelFlags,
    json: Json = False,
) -> None:
    """Put pictures into a library, which `ecliptic search` searches.

    Run it again to bring the library up to date: only new and changed pictures are read, and files
    that were moved or copied are not embedded again. A run that was stopped, even by a power cut,
    goes on where it was. Pictures that cannot be used are named on stderr, and the exit code is 3;
    they are not tried again until they change.
    """
    update.check(sources, model, out)
    made = not is_library(out)
    library = _open(out, model, sources, reembed=update.reembed)
    with _unmade(library, made=made):
        summary = update.run(library, sources, model)
    _report(library, summary, update)
    if json:
        print_json(_to_json(library, summary))
    if made and not len(library) and not any(one.size for one in summary.rejected):
        _unmake(library)
    leave(INTERRUPTED, when=summary.interrupted)
    leave(REJECTED, when=bool(summary.rejected))


@contextmanager
def _unmade(library: "Library", *, made: bool) -> "Iterator[None]":
    """Remove a library that was made just now, if a source cannot be read and it stays empty.

    Otherwise it would keep its columns and its model, which may be a part of the mistake.
    """
    try:
        yield
    except EclipticError:
        if made and not len(library) and not len(library.rejects):
            _unmake(library)
        raise


def _unmake(library: "Library") -> None:
    library.close()
    shutil.rmtree(library.folder)
    say(f"nothing was found, so {library.folder} is not made")


def _find_vanished(sources: IndexSources, library: Path) -> list[str]:
    """The named paths that are gone, but of which the library has pictures."""
    gone = [path for path in sources.inputs or () if not os.path.lexists(path)]
    if not gone or not is_library(library):
        return []
    from ecliptic.library import has_pictures

    store = open_library(library).store
    return [path for path in gone if has_pictures(store, path)]


def _check_prune(sources: IndexSources, *, prune: bool) -> None:
    from ecliptic.library import may_lose

    if prune and not any(map(may_lose, sources.inputs or ())):
        raise typer.BadParameter(
            "--prune needs a folder, a glob, a tar or a table among PATH; it looks there for what "
            "is gone."
        )


def _check_reembed(sources: IndexSources, model: LibraryModelFlags, unused: list[str]) -> None:
    if sources.inputs:
        raise typer.BadParameter("--reembed embeds what is in the library; leave PATH out.")
    given = {"--column": sources.column, "--id": sources.id_column, "--keep": sources.keep}
    unused += [flag for flag, value in given.items() if value is not None]
    if unused:
        raise typer.BadParameter(f"{', '.join(unused)}: no effect with --reembed; leave it out.")
    if not model.model:
        raise typer.BadParameter("--reembed needs --model, the model to change to.")


def _open(
    out: Path, model: LibraryModelFlags, sources: IndexSources, *, reembed: bool
) -> "Library":
    from ecliptic.library import Library

    if reembed:
        return open_library(out)
    if is_library(out):
        library = open_library(out, model)
        _check_types(sources.kept(), library.about.columns)
        return library
    name = model.model or "mini"
    library = Library.create(out, model.clip_of(name), sources.kept(), source=name)
    say(f"new library {out}, with the model {library.about.name}")
    return library


def _check_types(kept: "Mapping[str, ColumnType]", own: "Mapping[str, ColumnType]") -> None:
    """Raise if --keep names another type than that of the library's column."""
    for name, kind in kept.items():
        if name in own and own[name] != kind:
            raise InputError(
                f"the column {name!r} of the library holds {own[name]}, not {kind}; write --keep "
                f"{name}:{own[name]}."
            )


def _report(library: "Library", summary: "AddSummary", update: UpdateFlags) -> None:
    """Say what became of the pictures."""
    for reject in summary.rejected[:MOST_REJECTS]:
        say(f"rejected {shorten(reject.id)}: {reject.reason}")
    if (more := len(summary.rejected) - MOST_REJECTS) > 0:
        say(f"and {more:,} more; `ecliptic library rejects {library.folder}` lists them")
    if summary.rejected_before:
        say(f"{count(summary.rejected_before, 'picture')} rejected before; --retry tries again")
    pruned = update.prune or update.prune_all
    _say_gone(summary.gone, "gone", "" if pruned else "; --prune removes them from the library")
    why = "gone, perhaps with a disk that is not connected"
    fix = "" if update.prune_all else "; they stay in the library, --prune-all removes them"
    _say_gone(summary.away, why, fix)
    parts = [
        (summary.added, "added"),
        (summary.changed, "changed"),
        (summary.moved, "moved"),
        (summary.copied, "copied"),
        (summary.removed, "removed"),
        (summary.unchanged, "unchanged"),
        (len(summary.rejected), "rejected"),
        (len(summary.gone) + len(summary.away) - summary.removed, "gone"),
    ]
    told = ", ".join(f"{number:,} {what}" for number, what in parts if number) or "nothing to do"
    if summary.interrupted:
        say("interrupted; what was embedded is stored, and the next run goes on here")
    say(f"{told}; {library.folder} has {count(len(library), 'picture')}")


def _say_gone(gone: Iterable[str], why: str, fix: str) -> None:
    names = [shorten(name) for name in gone]
    if names:
        more = f" and {len(names) - MOST_GONE:,} more" if len(names) > MOST_GONE else ""
        say(f"{count(len(names), 'file')} {why}: {', '.join(names[:MOST_GONE])}{more}{fix}")


def _to_json(library: "Library", summary: "AddSummary") -> dict[str, Any]:
    found = dataclasses.asdict(summary)
    return {"library": str(library.folder), "pictures": len(library), **found}
