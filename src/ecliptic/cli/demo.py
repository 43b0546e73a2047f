"""`ecliptic demo`: what the toolkit can do, shown with bundled drawings or images of the user."""

import dataclasses
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import MINI_NOTE, Force, ModelName, expands
from ecliptic.cli.output import on_terminal, print_text, say
from ecliptic.cli.sources import EmbedSources
from ecliptic.cli.wording import name_flags
from ecliptic.report import LIMIT

PAGE = Path("ecliptic-demo.html")

if TYPE_CHECKING:
    from ecliptic.engine import Item


@dataclasses.dataclass(frozen=True)
class OwnImages:
    """Images of the user, and the texts to search them with."""

    images: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Your images: files, folders or tables, as in `ecliptic embed`; repeat for more.",
            show_default="the bundled drawings",
        ),
    ] = None
    column: Annotated[str | None, typer.Option(help="Column of a table with the paths.")] = None
    queries: Annotated[
        str | None,
        typer.Option(
            help="Texts to search your images with, separated by commas.",
            show_default="general ones, such as people and food",
        ),
    ] = None
    queries_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with one text per line; - is stdin.")
    ] = None
    limit: Annotated[
        int, typer.Option(min=1, help="Use at most this number of images, drawn at random.")
    ] = LIMIT

    def items(self) -> "Iterator[Item] | None":
        """The images; None without --images."""
        if not self.images:
            return None
        sources = EmbedSources(self.images, self.column)
        sources.check()
        return (item for _, items in sources.sets(self.images) for item in items)

    def texts(self) -> list[str] | None:
        """The texts; None if none are given."""
        from ecliptic.cli.texts import read_list

        if (self.queries, self.queries_file) != (None, None) and not self.images:
            raise typer.BadParameter("--queries is for your own images; add --images PATH.")
        return read_list(self.queries, self.queries_file, "queries")


@expands
def demo(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The page, one HTML file.")
    ] = PAGE,
    model: ModelName = "mini",
    own: OwnImages,
    force: Force = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show on an HTML page what a model finds in drawings or images.

    The page searches, classifies and compares them. Without --images and --model it needs no
    download. The built-in model knows drawings, not photographs.

    Images that cannot be used are listed on stderr and on the page, and the exit code is 3. Without
    --force only ecliptic-demo.html is replaced.
    """
    texts, items = own.texts(), own.items()
    from ecliptic.engine import load
    from ecliptic.report import demo as write_report
    from ecliptic.storage import check_outputs

    inputs = [model, *(own.images or ()), *filter(None, [own.queries_file])]
    check_outputs([out], inputs, force=force or out == PAGE, make_folders=True)
    if items is not None and model == "mini":
        say(MINI_NOTE)
    clip = None if model == "mini" else load(model)
    result = write_report(
        out, clip, images=items, queries=texts, limit=own.limit, progress=on_terminal()
    )
    for reject in result.scope.rejects:
        say(name_flags(f"rejected {reject.source}: {reject.reason}"))
    if show:
        typer.launch(str(out.resolve()))
    say("open this file in a browser:")
    print_text(out.resolve())
    if how := _describe_start():
        say(how)
    leave(REJECTED, when=len(result.scope.rejects) > 0)


def _describe_start() -> str:
    """How to start `ecliptic` again; "" if the shell finds this program by its name."""
    program, found = Path(sys.argv[0]), shutil.which("ecliptic")
    if program.stem != "ecliptic" or (found and Path(found).resolve() == program.resolve()):
        return ""
    script = program.with_name("activate")
    if not script.exists():
        return f"to use it again, type {shlex.quote(str(program))} in place of ecliptic"
    source = "source " * (os.name != "nt")
    return f"to use the command ecliptic in this shell: {source}{shlex.quote(str(script))}"
