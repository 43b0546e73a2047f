"""`ecliptic library`: facts about a library, its health, and its vectors as files."""

import itertools
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import FAILED, leave
from ecliptic.cli.flags import Json, expands
from ecliptic.cli.help import HelpfulCommand
from ecliptic.cli.library_files import export, import_
from ecliptic.cli.library_flags import USUAL, LibraryArgument, Where, open_library, shorten
from ecliptic.cli.output import count, print_facts, print_json, print_table, print_text, say

if TYPE_CHECKING:
    from ecliptic.index import Repaired
    from ecliptic.library import Library

_LOOKED_AT = 1000  # rows, for examples
_WIDEST = 44  # characters of an example

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at a library, check, mend and shrink it.",
)


@app.command(cls=HelpfulCommand)
@expands
def info(*, library: LibraryArgument = USUAL, json: Json = False) -> None:
    """Say what a library holds, and which columns a filter can use."""
    opened = open_library(library)
    facts: dict[str, Any] = {
        "pictures": len(opened),
        "rejected": len(opened.rejects),
        "model": opened.about.name,
        "space": opened.about.space,
        "columns": dict(opened.store.schema.columns),
    }
    if json:
        print_json(facts)
        return
    columns = facts.pop("columns")
    print_facts({name: f"{v:,}" if isinstance(v, int) else v for name, v in facts.items()})
    print_text("")
    examples = _find_examples(opened)
    rows = [(name, kind, examples.get(name, "")) for name, kind in columns.items()]
    print_table(("column", "type", "such as"), [("id", "string", examples.get("id", "")), *rows])


def _find_examples(library: "Library") -> dict[str, str]:
    """A value of each column, as it is, or its end."""
    found: dict[str, str] = {}
    for row in itertools.islice(library.rows(), _LOOKED_AT):
        for name, value in row.items():
            if value is not None and name not in found:
                text = str(value)
                found[name] = text if len(text) <= _WIDEST else f"…{text[1 - _WIDEST :]}"
    return found


@app.command(cls=HelpfulCommand)
@expands
def check(
    *,
    library: LibraryArgument = USUAL,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte and compare checksums.")
    ] = False,
    json: Json = False,
) -> None:
    """Look for damaged and missing files.

    The exit code is 1 if there are some.
    """
    from ecliptic.library import check_library

    problems = check_library(library, deep=deep)
    if json:
        print_json([{"where": one.where, "what": one.what} for one in problems])
    for one in [] if json else problems:
        print_text(f"{one.where}: {one.what}")
    found = f"{count(len(problems), 'problem')} in {library}"
    say(found if problems else f"{library} is sound")
    leave(FAILED, when=bool(problems))


@app.command(cls=HelpfulCommand)
@expands
def repair(
    *,
    library: LibraryArgument = USUAL,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Remove pictures whose data is damaged; index them again."),
    ] = False,
    json: Json = False,
) -> None:
    """Mend what `check` finds, and say what was lost.

    The exit code is 1 if problems remain.
    """
    from ecliptic.library import repair_library

    done = repair_library(library, drop=drop)
    if json:
        print_json(_repaired_to_json(done))
    for action in [] if json else done.actions:
        print_text(action)
    for left in [] if json else done.left:
        print_text(f"{left.where}: {left.what}")
    if done.lost:
        say(f"{count(done.lost, 'picture')} lost; `ecliptic index` adds them again")
    else:
        say("nothing was lost" if done.actions else "nothing to repair")
    leave(FAILED, when=bool(done.left))


def _repaired_to_json(done: "Repaired") -> dict[str, Any]:
    left = [{"where": one.where, "what": one.what} for one in done.left]
    return {"actions": list(done.actions), "lost": done.lost, "left": left}


@app.command(cls=HelpfulCommand)
@expands
def compact(
    *,
    library: LibraryArgument = USUAL,
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Remove old versions too that a running search may use, and thumbnails of "
            "pictures that are gone. Add nothing meanwhile.",
        ),
    ] = False,
) -> None:
    """Join small files, and remove what is no longer used.

    Versions of the last hour stay unless --now is given, so the folder can be larger for a while.
    """
    before = _size(library)
    open_library(library).compact(now=now)
    kept = "" if now else "; old versions stay for an hour, --now removes them"
    say(f"{library}: {before:,} MB before, {_size(library):,} MB now{kept}")


def _size(folder: Path) -> float:
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process may be at work
            size += file.stat().st_size
    return round(size / 1e6, 1)


@app.command(cls=HelpfulCommand)
@expands
def rejects(*, library: LibraryArgument = USUAL, json: Json = False) -> None:
    """List the pictures that could not be used, with reasons."""
    found = sorted(open_library(library).rejects, key=lambda one: one.id)
    if json:
        print_json([{"picture": one.id, "reason": one.reason} for one in found])
        return
    for one in found:
        print_text(f"{shorten(one.id)}: {one.reason}")
    say(count(len(found), "reject"))


@app.command(cls=HelpfulCommand)
@expands
def remove(
    *,
    library: LibraryArgument = USUAL,
    where: Where = None,
) -> None:
    """Remove pictures that pass a filter; their files stay."""
    if where is None:
        raise typer.BadParameter("--where FILTER says which pictures to remove; it is missing.")
    removed = open_library(library).store.delete(where=where)
    say(f"{count(removed, 'picture')} removed from {library}; the files are as they were")


app.command(cls=HelpfulCommand)(export)
app.command("import", cls=HelpfulCommand)(import_)
