"""`ecliptic demo`: what the toolkit can do, shown with the built-in model and drawings."""

from pathlib import Path
from typing import Annotated

import typer

from ecliptic.cli.flags import MODEL_HELP, Force
from ecliptic.cli.output import print_text, say

PAGE = Path("ecliptic-demo.html")


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The report, one HTML file.")
    ] = PAGE,
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)] = "mini",
    force: Force = False,
    show: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Try everything on the bundled drawings; write an HTML report.

    Encodes, classifies, searches and compares them. Needs no download. The built-in model knows
    drawings, not photographs. Without --force only ecliptic-demo.html is replaced.
    """
    from ecliptic.engine import load
    from ecliptic.report import demo as write_report
    from ecliptic.storage import check_outputs

    own = out == PAGE  # a name of ours, replaced each time
    check_outputs([out], [model], force=force or own, make_folders=True)
    write_report(out, None if model == "mini" else load(model))
    if show:
        typer.launch(str(out.resolve()))
    say("open this file in a browser:")
    print_text(out.resolve())
