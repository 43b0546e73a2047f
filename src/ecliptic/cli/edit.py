"""`ecliptic edit`: change a picture as one text changes into another."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from ecliptic.guidance import EditSettings

SVG, PNG = ".svg", ".png"


@dataclasses.dataclass(frozen=True)
class EditFlags:
    """What may change, how the rest is held, and the work."""

    way: Annotated[
        str,
        typer.Option(help="How the picture is held: pixels or strokes.", metavar="pixels|strokes"),
    ] = "pixels"
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture of the same size: white may change, black stays.", metavar="FILE"
        ),
    ] = None
    near: Annotated[
        float, typer.Option("--keep", help="How strongly the picture is kept; 0: not.", min=0.0)
    ] = 2.0
    stroke_count: Annotated[
        int | None,
        typer.Option(
            "--strokes", help="Strokes, for --way strokes.", min=1, max=2000, show_default="96"
        ),
    ] = None
    drawn_steps: StepsFlag = 120
    drawn_size: SizeFlag = 96
    seed: Seed = 0

    def settings(self) -> "EditSettings":
        """As the library takes them; a usage error for what has no effect."""
        from ecliptic.guidance import EditSettings, check_way

        with checks_usage():
            settings = EditSettings(
                steps=self.drawn_steps,
                size=self.drawn_size,
                keep=self.near,
                mask=self.mask,
                strokes=self.stroke_count,
                seed=self.seed,
            )
            check_way(self.way, settings)
        return settings


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
    flags: EditFlags,
    model: JudgeFlags,
    out: Out = Path("edited.png"),
    page: PageFlag = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Change PICTURE as the text of --from changes into that of --to.

    The change is made at --size and added to the picture, which keeps its own size. With --way
    strokes the picture is painted first, and the result can be an SVG.
    """
    _check_out(out, flags.way, flags.mask)
    settings = flags.settings()
    read = [str(picture), *([str(flags.mask)] if flags.mask else [])]
    refuse_missing_files(read)
    outputs = [out, *([page] if page else [])]
    check_written(outputs, [*read, model.model], force=force, flags="--out")
    from ecliptic.guidance import edit as change

    clip = model.clip()
    with step_bar(settings.steps) as report:
        found = change(picture, source_text, target_text, clip, flags.way, settings, report)
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
