"""`ecliptic edit`: change a picture as one text changes into another."""

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
from ecliptic.cli.exits import checks_usage
from ecliptic.cli.flags import Force, Json, Out, check_written, expands
from ecliptic.cli.texts import refuse_missing_files

SVG, PNG = ".svg", ".png"


@expands
def edit(
    picture: Annotated[Path, typer.Argument(help="The picture to change.", metavar="PICTURE")],
    *,
    source_text: Annotated[
        str, typer.Option("--from", help="What the picture shows.", metavar="TEXT")
    ],
    target_text: Annotated[
        str, typer.Option("--to", help="What it should show instead.", metavar="TEXT")
    ],
    way: Annotated[
        str,
        typer.Option(help="How the picture is held: pixels or strokes.", metavar="pixels|strokes"),
    ] = "pixels",
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture of the same size: white may change, black stays.", metavar="FILE"
        ),
    ] = None,
    near: Annotated[
        float, typer.Option("--keep", help="How strongly the picture is kept; 0: not.", min=0.0)
    ] = 2.0,
    stroke_count: Annotated[
        int | None,
        typer.Option(
            "--strokes", help="Strokes, for --way strokes.", min=1, max=2000, show_default="96"
        ),
    ] = None,
    drawn_steps: StepsFlag = 120,
    drawn_size: SizeFlag = 96,
    model: JudgeFlags,
    out: Out = Path("edited.png"),
    page: PageFlag = None,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Change PICTURE as the text of --from changes into that of --to.

    The change is made at --size and added to the picture, which keeps its own size. With --way
    strokes the picture is painted first, and the result can be an SVG.
    """
    _check_out(out, way, mask)
    read = [str(picture), *([str(mask)] if mask else [])]
    refuse_missing_files(read)
    check_written(
        [out, *([page] if page else [])], [*read, model.model], force=force, flags="--out"
    )
    from ecliptic.guidance import EditSettings, check_way, edit as change

    with checks_usage():
        settings = EditSettings(
            steps=drawn_steps,
            size=drawn_size,
            keep=near,
            mask=mask,
            strokes=stroke_count,
            seed=seed,
        )
        check_way(way, settings)
    clip = model.clip()
    with step_bar(drawn_steps) as report:
        found = change(picture, source_text, target_text, clip, way, settings, report)
    if out.suffix.lower() == SVG:
        write_text(out, found.svg(target_text))
    else:
        write_picture(out, found.after)
    facts = {"cosine_of_changes": found.along, "nearer_to_the_text_by": found.moved}
    written = None
    if page:
        from ecliptic.report import edit_page

        written = page, edit_page(found, source_text, target_text, clip.card.name)
    report_work(facts, found.way, out, written, json=json)


def _check_out(out: Path, way: str, mask: Path | None) -> None:
    """Raise a usage error for a suffix that cannot hold the result."""
    if out.suffix.lower() == SVG and way != "strokes":
        raise typer.BadParameter(
            f"an SVG holds strokes, not pixels; name a .png, or add --way strokes, got {out}."
        )
    if out.suffix.lower() == SVG and mask:
        raise typer.BadParameter(
            "an SVG of strokes cannot hold the picture outside the mask; name a .png."
        )
    check_suffix(out, (PNG, SVG) if way == "strokes" else (PNG,))
