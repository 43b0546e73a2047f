"""`ecliptic sketch`: draw a text with strokes, from nothing."""

from pathlib import Path
from typing import Annotated

import typer

from ecliptic.cli.canvas_flags import (
    JudgeFlags,
    PageFlag,
    Seed,
    SizeFlag,
    StepsFlag,
    check_suffix,
    report_work,
    step_bar,
    write_picture,
    write_text,
)
from ecliptic.cli.flags import Force, Json, Out, check_written, expands

SVG, PNG = ".svg", ".png"
_LARGE = 768  # pixels of a PNG's side


@expands
def sketch(
    text: Annotated[str, typer.Argument(help="What to draw.", metavar="TEXT")],
    *,
    strokes: Annotated[int, typer.Option(help="Strokes of the drawing.", min=1, max=2000)] = 40,
    drawn_steps: StepsFlag = 150,
    drawn_size: SizeFlag = 64,
    model: JudgeFlags,
    out: Out = Path("sketch.svg"),
    page: PageFlag = None,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw TEXT with strokes, as an SVG or PNG.

    Random strokes move until the model sees TEXT in them, so it is what the model looks for and not
    what a person would draw. The built-in model knows drawings of things.
    """
    check_suffix(out, (SVG, PNG))
    if not text.strip():
        raise typer.BadParameter("TEXT is empty; say what to draw.")
    check_written([out, *([page] if page else [])], [model.model], force=force, flags="--out")
    from ecliptic.guidance import SketchSettings, sketch as draw

    settings = SketchSettings(strokes=strokes, steps=drawn_steps, size=drawn_size, seed=seed)
    clip = model.clip()
    with step_bar(drawn_steps) as report:
        found = draw(text, clip, settings, report)
    if out.suffix.lower() == SVG:
        write_text(out, found.svg())
    else:
        write_picture(out, found.canvas.enlarge((_LARGE, _LARGE)))
    facts = {"cosine_before": found.before, "cosine_after": found.after}
    written = None
    if page:
        from ecliptic.report import sketch_page

        written = page, sketch_page(found, clip.card.name)
    report_work(facts, found.way, out, written, json=json)
