"""`ecliptic draw`: small drawings of a text, by the embedded drawing model."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.canvas_flags import Seed, check_suffix, step_bar
from ecliptic.cli.exits import checks_usage
from ecliptic.cli.flags import Force, Json, Out, check_written, expands
from ecliptic.cli.output import print_json, say

if TYPE_CHECKING:
    from PIL import Image

_LARGER = 3  # times, so that 64 pixels can be seen
_COLUMNS = 4


@dataclasses.dataclass(frozen=True)
class DrawFlags:
    """How the drawings are made."""

    count: Annotated[int, typer.Option(help="Drawings on the sheet.", min=1, max=64)] = 8
    guidance: Annotated[
        float, typer.Option(help="Strength of the words: 1 to 5; more is clearer, less varied.")
    ] = 3.0
    clip_guidance: Annotated[
        float, typer.Option(help="Strength of CLIP guidance on top; 0 is quicker.")
    ] = 2.0
    unlike: Annotated[str | None, typer.Option(help="What it should not look like.")] = None
    drawn_steps: Annotated[
        int, typer.Option("--steps", help="Steps of the sampler.", min=1, max=1000)
    ] = 24
    seed: Seed = 0

    def check(self) -> None:
        """Raise a usage error for a value that cannot be."""
        from ecliptic.drawing import DrawSettings

        with checks_usage():
            DrawSettings(self.guidance, self.clip_guidance, self.drawn_steps, self.seed)


@expands
def draw(
    text: Annotated[str, typer.Argument(help="What to draw.", metavar="TEXT")],
    *,
    flags: DrawFlags,
    each: Annotated[
        bool,
        typer.Option(
            "--each", help="Write NAME-1.png, NAME-2.png, ... of 64 pixels, and no sheet."
        ),
    ] = False,
    out: Out = Path("drawing.png"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw TEXT: a sheet of small emoji-like drawings.

    The built-in drawing model knows simple things that it was shown as emoji and icons: animals,
    food, vehicles, tools. Scenes, people and writing do not work. It needs no download.
    """
    check_suffix(out, (".png",))
    if not text.strip():
        raise typer.BadParameter("TEXT is empty; say what to draw.")
    flags.check()
    numbers = range(1, flags.count + 1)
    files = [out.with_stem(f"{out.stem}-{n}") for n in numbers] if each else [out]
    check_written(files, [], force=force, flags="--out")
    from ecliptic.drawing import sheet, write_pictures

    pictures = _draw(text, flags)
    write_pictures(files, pictures if each else [sheet(pictures, _COLUMNS, _LARGER)])
    if json:
        print_json({"text": text, "seed": flags.seed, "files": [str(file) for file in files]})
    say(
        f"{flags.count} drawing{'s' * (flags.count != 1)} in {files[0]}"
        + (f" to {files[-1]}" if len(files) > 1 else "")
    )


def _draw(text: str, flags: DrawFlags) -> "list[Image.Image]":
    """The drawings, with a bar of the steps."""
    from ecliptic.drawing import draw as draw_pictures

    with step_bar(flags.drawn_steps) as report:
        return draw_pictures(
            text,
            flags.count,
            guidance=flags.guidance,
            clip_guidance=flags.clip_guidance,
            seed=flags.seed,
            steps=flags.drawn_steps,
            unlike=flags.unlike,
            watch=lambda step: report(step.number, 0.0),
        )
