"""`ecliptic guide`: pictures by a pipeline of diffusers that CLIP guides."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.checks import check_number
from ecliptic.cli.canvas_flags import JudgeFlags, Seed, check_suffix, step_bar
from ecliptic.cli.exits import checks_usage
from ecliptic.cli.flags import Force, Json, Out, check_written, expands
from ecliptic.cli.output import print_json, say

if TYPE_CHECKING:
    from PIL import Image

    from ecliptic.guidance import GuidedStep

_COLUMNS = 4


@dataclasses.dataclass(frozen=True)
class GuideFlags:
    """What the pipeline is told, and how strongly CLIP pulls."""

    prompt: Annotated[
        str | None, typer.Option(help="Prompt of the pipeline itself.", show_default="TEXT")
    ] = None
    scale: Annotated[
        float, typer.Option(help="Strength of CLIP guidance; 0 has none, below 0 leads away.")
    ] = 100.0
    cutouts: Annotated[int, typer.Option(help="Squares that CLIP sees in a step.", min=0)] = 16
    decode: Annotated[
        str,
        typer.Option(
            help="How CLIP sees latents: by the VAE, in tiles, or by a linear map, the cheapest.",
            metavar="vae|tiled|linear",
        ),
    ] = "vae"
    count: Annotated[int, typer.Option(help="Pictures on the sheet.", min=1, max=64)] = 1
    drawn_steps: Annotated[
        int, typer.Option("--steps", help="Steps of the sampler.", min=1, max=1000)
    ] = 50
    seed: Seed = 0

    def check(self) -> None:
        """Raise a usage error for a value that cannot be, before anything is loaded."""
        from ecliptic.guidance import check_decode

        with checks_usage():
            check_number("scale", self.scale, "pass a finite number, such as 100.")
            check_decode(self.decode)


@expands
def guide(
    folder: Annotated[Path, typer.Argument(help="Folder of a pipeline.", metavar="PIPELINE")],
    text: Annotated[str, typer.Argument(help="What CLIP looks for.", metavar="TEXT")],
    *,
    flags: GuideFlags,
    model: JudgeFlags,
    out: Out = Path("guided.png"),
    force: Force = False,
    json: Json = False,
) -> None:
    """Let CLIP guide a pipeline of diffusers towards TEXT.

    PIPELINE is the folder of Stable Diffusion 1 or 2, SDXL, SD3 or FLUX. Choose a CLIP that knows
    such pictures with --model: the built-in one knows drawings only. It needs diffusers.
    """
    check_suffix(out, (".png",))
    if not text.strip():
        raise typer.BadParameter("TEXT is empty; say what CLIP should look for.")
    flags.check()
    check_written([out], [str(folder), model.model], force=force, flags="--out")
    from ecliptic.drawing import sheet, write_pictures

    with step_bar(flags.drawn_steps) as report:
        pictures = _guide(folder, text, flags, model, report)
    write_pictures([out], [sheet(pictures, _COLUMNS, 1)])
    if json:
        print_json({"text": text, "seed": flags.seed, "scale": flags.scale, "out": str(out)})
    say(f"{len(pictures)} picture{'s' * (len(pictures) != 1)} in {out}")


def _guide(
    folder: Path,
    text: str,
    flags: GuideFlags,
    model: JudgeFlags,
    report: Callable[[int, float], object],
) -> "list[Image.Image]":
    """The pictures."""
    from ecliptic.guidance import generator_of, guided_pipeline, open_pipeline

    clip = model.clip()
    pipe = open_pipeline(folder, str(clip.device))

    def watch(step: "GuidedStep") -> None:
        report(step.number, 0.0)

    given: dict[str, Any] = {
        "num_inference_steps": flags.drawn_steps,
        "num_images_per_prompt": flags.count,
        "generator": generator_of(flags.seed),
    }
    with guided_pipeline(
        pipe,
        clip,
        text,
        scale=flags.scale,
        cutouts=flags.cutouts,
        decode=flags.decode,  # type: ignore[arg-type]
        seed=flags.seed,
        watch=watch,
    ) as guided:
        return list(guided(text if flags.prompt is None else flags.prompt, **given).images)
