"""The flags of `ecliptic score`: what is scored, and how sure the result is."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from ecliptic.cli.exits import checks_usage

if TYPE_CHECKING:
    from ecliptic.tasks import RowColumns

_Score = Literal[
    "clipscore",
    "refclipscore",
    "refclipscore-published",
    "clip-t",
    "torchmetrics",
    "directional",
    "iqa",
    "preference",
    "clip-i",
    "cmmd",
    "cmmd-published",
]
SETS = get_args(_Score)[-3:]  # scores of two sets of images
LEVEL, EXAMPLES = 0.95, 3  # unless given
ScorePaths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="A table (.csv, .tsv, .jsonl, .parquet) with an image and a caption in each row, or - "
        "for such rows as JSON lines on stdin; a folder of images; two folders to compare; or the "
        "vectors of images and of captions, written by `ecliptic embed`.",
        show_default=False,
    ),
]


@dataclasses.dataclass(frozen=True)
class ScoreFlags:
    """What is scored, and by which convention."""

    metric: Annotated[
        _Score,
        typer.Option(
            metavar="NAME",
            help=f"The score: {', '.join(get_args(_Score)[:-3])}; of two sets of images "
            f"{', '.join(SETS)}.",
        ),
    ] = "clipscore"
    captions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table with the captions of the images in folders."),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT=NAME,...",
            help="Columns of the table, such as image=file,caption=text,references=a+b; group=NAME "
            "are rows that count as one observation.",
            show_default="image, caption, references, edited, edited_caption",
        ),
    ] = None
    words: Annotated[
        str | None,
        typer.Option(
            metavar="GOOD,BAD",
            help="The two texts of iqa.",
            show_default="Good photo.,Bad photo.",
        ),
    ] = None
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What every caption begins with.",
            show_default="'A photo depicts ' for clipscore and refclipscore",
        ),
    ] = None

    def row_columns(self) -> "RowColumns":
        """The columns of a table."""
        from ecliptic.tasks import RowColumns, find_metric

        with checks_usage():
            return RowColumns(find_metric(self.metric), self.named())

    def named(self) -> dict[str, str]:
        """What is in which column, as given."""
        pairs = [part.partition("=") for part in (self.columns or "").split(",") if part.strip()]
        if not all(what.strip() and sign and name.strip() for what, sign, name in pairs):
            raise typer.BadParameter(
                f"--columns {self.columns!r} must be names with =, as in image=file,caption=text."
            )
        named = {what.strip(): name.strip() for what, _, name in pairs}
        if len(named) < len(pairs):
            raise typer.BadParameter(
                f"--columns {self.columns!r} names the column of one thing twice; name it once."
            )
        return named

    def pair_of_words(self) -> tuple[str, str] | None:
        """The two texts of --words."""
        if self.words is None:
            return None
        words = [word.strip() for word in self.words.split(",")]
        if len(words) != 2 or not all(words):
            raise typer.BadParameter(
                f"--words must be two texts with a comma between, got {self.words!r}."
            )
        return words[0], words[1]


def _check_level(level: float | None) -> float | None:
    if level is not None and not 0.5 <= level <= 0.999:
        near = f", such as {level / 100:g} for {level:g} %" if 50 <= level <= 99.9 else ""
        raise typer.BadParameter(f"a level is a share from 0.5 to 0.999{near}; got {level:g}.")
    return level


@dataclasses.dataclass(frozen=True)
class UncertaintyFlags:
    """The interval, and the examples."""

    level: Annotated[
        float | None,
        typer.Option(
            help="Of the intervals, from 0.5 to 0.999.",
            metavar="SHARE",
            show_default="0.95",
            callback=_check_level,
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Of resamples and permutations.", min=0)] = 0
    examples: Annotated[
        int | None,
        typer.Option(
            help="Worst and best rows that are shown.", min=0, metavar="N", show_default="3"
        ),
    ] = None
