"""What `sketch` and `edit` share: the judging model, flags of the work, the result."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import FAILED, leave
from ecliptic.cli.flags import Device, IdentityFlags, ModelName, PrecisionFlag
from ecliptic.cli.output import on_terminal, print_facts, print_json, say

if TYPE_CHECKING:
    from ecliptic.engine import Clip
    from ecliptic.guidance import Optimised
    from ecliptic.markup import Html

Seed = Annotated[int, typer.Option(help="Of the random numbers; the same gives the same.", min=0)]
PageFlag = Annotated[
    Path | None,
    typer.Option(help="Write the picture at several steps, and the loss, as HTML.", metavar="FILE"),
]
StepsFlag = Annotated[
    int, typer.Option("--steps", help="Steps of the work; more take longer.", min=1)
]
SizeFlag = Annotated[
    int,
    typer.Option("--size", help="Pixels of the longer side during the work.", min=16, max=1024),
]


@dataclasses.dataclass(frozen=True)
class JudgeFlags(IdentityFlags):
    """The model that judges the picture, and where it runs."""

    model: ModelName = "mini"
    device: Device = "auto"
    precision: PrecisionFlag = "auto"

    def clip(self) -> "Clip":
        """The model."""
        return self.load(self.model, device=self.device, precision=self.precision)


def check_suffix(out: Path, known: tuple[str, ...]) -> None:
    """Raise a usage error unless the name of the output ends in one of `known`."""
    if out.suffix.lower() not in known:
        raise typer.BadParameter(f"--out must end in {' or '.join(known)}, got {out}.")


@contextmanager
def step_bar(steps: int) -> Iterator[Callable[[int, float], object]]:
    """A bar of the steps on a terminal; gives the `report` of `optimise`."""
    from ecliptic.engine import progress_bar

    with progress_bar("steps", steps, show=on_terminal()) as advance:
        yield lambda _step, _loss: advance(1)


def write_picture(out: Path, picture: Any) -> None:
    """Write (1, 3, H, W) values 0 to 1 as PNG."""
    from PIL import Image

    from ecliptic.guidance import to_bytes
    from ecliptic.storage import replace_file, stream_writer

    image = Image.fromarray(to_bytes(picture))
    replace_file(out, stream_writer(lambda file: image.save(file, "PNG")))


def write_text(out: Path, text: str) -> None:
    """Write an SVG or a page."""
    from ecliptic.storage import replace_file, text_writer

    replace_file(out, text_writer(text))


def report_work(
    facts: Mapping[str, float],
    way: "Optimised",
    out: Path,
    page: "tuple[Path, Html] | None",
    *,
    json: bool,
) -> None:
    """Print what was reached, and end with exit code 1 if the work stopped early."""
    if page:
        write_text(*page)
    steps = len(way.losses)
    if json:
        files = {"out": str(out), "page": str(page[0]) if page else None}
        print_json({**facts, "steps": steps, "notice": way.notice or None, **files})
    else:
        print_facts({name.replace("_", " "): f"{value:.3f}" for name, value in facts.items()})
    if way.stopped:
        say(f"stopped early: {way.notice}")
    say(f"picture in {out}" + (f", page in {page[0]}" if page else ""))
    leave(FAILED, when=way.stopped)
