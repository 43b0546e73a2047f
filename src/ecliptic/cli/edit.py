"""`ecliptic edit`: change a picture as one text changes into another."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.checks import check_choice
from ecliptic.cli.canvas_flags import (
    JudgeFlags,
    PageFlag,
    Seed,
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
    from ecliptic.drawing import RedrawSettings
    from ecliptic.engine import Clip
    from ecliptic.guidance import Edit, EditSettings

SVG, PNG = ".svg", ".png"
DRAWING = "drawing"  # the way that draws anew
EDIT_WAYS = ("pixels", "strokes", DRAWING)
STRENGTH, KEEP = 0.85, 2.0
EDIT_STEPS, DRAWN_STEPS, EDIT_SIZE = 120, 24, 96


@dataclasses.dataclass(frozen=True)
class EditFlags:
    """What may change, how the rest is held, and the work."""

    way: Annotated[
        str,
        typer.Option(
            help="How the picture is held: pixels, strokes, or drawn anew.",
            metavar="pixels|strokes|drawing",
        ),
    ] = "pixels"
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture of the same size: white may change, black stays.", metavar="FILE"
        ),
    ] = None
    near: Annotated[
        float | None,
        typer.Option(
            "--keep", help="How strongly the picture is kept; 0: not.", min=0.0, show_default="2"
        ),
    ] = None
    stroke_count: Annotated[
        int | None,
        typer.Option(
            "--strokes", help="Strokes, for --way strokes.", min=1, max=2000, show_default="96"
        ),
    ] = None
    strength: Annotated[
        float | None,
        typer.Option(
            help="How much is drawn anew, 0 to 1, for --way drawing.", show_default=f"{STRENGTH}"
        ),
    ] = None
    drawn_steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help="Steps of the work; drawing anew does those below --strength.",
            min=1,
            show_default="120; 24 to draw",
        ),
    ] = None
    drawn_size: Annotated[
        int | None,
        typer.Option(
            "--size",
            help="Pixels of the longer side during the work.",
            min=16,
            max=1024,
            show_default="96",
        ),
    ] = None
    seed: Seed = 0

    @property
    def steps(self) -> int:
        """Steps of the work."""
        return self.drawn_steps or (DRAWN_STEPS if self.way == DRAWING else EDIT_STEPS)

    def settings(self) -> "EditSettings":
        """As the library takes them; a usage error for what has no effect."""
        from ecliptic.guidance import EditSettings, check_way

        self._refuse({"--strength": self.strength})
        with checks_usage():
            settings = EditSettings(
                steps=self.steps,
                size=self.drawn_size or EDIT_SIZE,
                keep=KEEP if self.near is None else self.near,
                mask=self.mask,
                strokes=self.stroke_count,
                seed=self.seed,
            )
            check_way(self.way, settings)
        return settings

    def redraw_settings(self) -> "RedrawSettings":
        """Those of the way "drawing"."""
        from ecliptic.drawing import DrawSettings, RedrawSettings

        self._refuse(
            {"--keep": self.near, "--size": self.drawn_size, "--strokes": self.stroke_count}
        )
        with checks_usage():
            drawing = DrawSettings(steps=self.steps, seed=self.seed)
            strength = STRENGTH if self.strength is None else self.strength
            return RedrawSettings(strength, self.mask, drawing)

    def _refuse(self, given: Mapping[str, object]) -> None:
        """Raise a usage error for a flag without effect in this way."""
        for name, value in given.items():
            if value is not None:
                raise typer.BadParameter(
                    f"{name} has no effect with --way {self.way}; leave it out."
                )


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
    with checks_usage():
        check_choice("way", flags.way, EDIT_WAYS)
    _check_out(out, flags.way, flags.mask)
    if flags.way == DRAWING and model.model != "mini":
        raise typer.BadParameter("--way drawing draws with the built-in model; leave --model out.")
    settings = flags.redraw_settings() if flags.way == DRAWING else flags.settings()
    read = [str(picture), *([str(flags.mask)] if flags.mask else [])]
    refuse_missing_files(read)
    outputs = [out, *([page] if page else [])]
    check_written(outputs, [*read, model.model], force=force, flags="--out")
    clip = model.clip()
    with step_bar(flags.steps) as report:
        found = _change(picture, (source_text, target_text), clip, flags.way, settings, report)
    if out.suffix.lower() == SVG:
        write_text(out, found.svg(target_text))
    else:
        write_picture(out, found.after)
    facts = {"cosine_of_changes": found.along, "nearer_to_the_second_text_by": found.moved}
    written = None
    if page:
        from ecliptic.report import edit_page

        written = page, edit_page(found, source_text, target_text, clip.card.name)
    report_work(facts, found.way, out, written, json=json)


def _change(
    picture: Path,
    texts: tuple[str, str],
    clip: "Clip",
    way: str,
    settings: "EditSettings | RedrawSettings",
    report: Callable[[int, float], object],
) -> "Edit":
    """The edit, by the part of the library that has the way."""
    from ecliptic.drawing import EMBEDDED, RedrawSettings, read_drawing_model, redraw
    from ecliptic.guidance import edit as change

    if isinstance(settings, RedrawSettings):
        model = read_drawing_model(EMBEDDED, clip)
        return redraw(picture, *texts, settings, report, model)
    return change(picture, *texts, clip, way, settings, report)


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
