"""`ecliptic demo`: what the toolkit can do, shown with the built-in model and drawings."""

from pathlib import Path
from typing import Annotated

import typer

from ecliptic.cli.flags import MODEL_HELP
from ecliptic.cli.output import print_text, say


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The report, one HTML file.")
    ] = Path("ecliptic-demo.html"),
    model: Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)] = "mini",
    show: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Try everything on the bundled drawings; write an HTML report.

    Encodes, classifies, searches and compares them. Needs no download. The built-in model knows
    drawings, not photographs.
    """
    from ecliptic.engine import load
    from ecliptic.report import demo as write_report

    write_report(out, None if model == "mini" else load(model))
    if show:
        typer.launch(str(out.resolve()))
    say("open this file in a browser:")
    print_text(out.resolve())
