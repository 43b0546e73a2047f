"""`ecliptic draw`: small drawings of a text, by the embedded drawing model."""

from pathlib import Path
from typing import Annotated

import typer

from ecliptic.cli.canvas_flags import Seed, check_suffix, step_bar
from ecliptic.cli.flags import Force, Json, Out, check_written
from ecliptic.cli.output import print_json, say

_LARGER = 3  # times, so that 64 pixels can be seen
_COLUMNS = 4


def draw(
    text: Annotated[str, typer.Argument(help="What to draw.", metavar="TEXT")],
    *,
    count: Annotated[int, typer.Option(help="Drawings on the sheet.", min=1, max=64)] = 8,
    guidance: Annotated[
        float, typer.Option(help="Strength of the words: 1 to 5; more is clearer, less varied.")
    ] = 2.0,
    clip_guidance: Annotated[
        float, typer.Option(help="Strength of CLIP guidance on top; 0 is quicker.")
    ] = 1.0,
    unlike: Annotated[str | None, typer.Option(help="What it should not look like.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.", min=1, max=1000)] = 30,
    seed: Seed = 0,
    each: Annotated[
        bool, typer.Option("--each", help="Write each drawing as a file of its own, 64 pixels.")
    ] = False,
    out: Out = Path("drawing.png"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw TEXT: a sheet of small emoji-like drawings.

    The built-in drawing model knows simple things that it was shown as emoji and icons: animals,
    food, vehicles, tools. It needs no download.
    """
    check_suffix(out, (".png",))
    if not text.strip():
        raise typer.BadParameter("TEXT is empty; say what to draw.")
    files = [out.with_stem(f"{out.stem}-{n + 1}") for n in range(count)] if each else [out]
    check_written(files, [], force=force, flags="--out")
    from ecliptic.drawing import draw as draw_pictures, sheet, write_pictures

    with step_bar(steps) as report:
        pictures = draw_pictures(
            text,
            count,
            guidance=guidance,
            clip_guidance=clip_guidance,
            seed=seed,
            steps=steps,
            unlike=unlike,
            watch=lambda step: report(step.number, 0.0),
        )
    write_pictures(files, pictures if each else [sheet(pictures, _COLUMNS, _LARGER)])
    if json:
        print_json({"text": text, "seed": seed, "files": [str(file) for file in files]})
    say(f"{count} drawings in {files[0]}" + (f" to {files[-1]}" if len(files) > 1 else ""))
