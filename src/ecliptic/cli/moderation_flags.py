"""The flags of `ecliptic moderate`: what is looked for, labelled images, the review queue."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ecliptic.cli.rankings import SUFFIXES

SAVED = ".safetensors"  # the suffix of rules with their thresholds


@dataclasses.dataclass(frozen=True)
class RuleFlags:
    """What is looked for."""

    rules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Concepts in a .toml file, or what --save wrote (.safetensors)."
        ),
    ] = None
    safety_checker: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="In place of rules: the safety checker of Stable Diffusion or DeepFloyd IF, its "
            "folder or file, or the folder of a pipeline.",
        ),
    ] = None


@dataclasses.dataclass(frozen=True)
class LabelFileFlags:
    """Images that people labelled: to set thresholds, and to measure them."""

    tune: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Set the thresholds on a table with a column `image` (or --column) and one for "
            "each concept, with 1 or 0.",
        ),
    ] = None
    recall: Annotated[
        float | None,
        typer.Option(
            help="With --tune: share of the images with the concept that must be found.",
            show_default="0.95",
        ),
    ] = None
    wanted_precision: Annotated[
        float | None,
        typer.Option(help="With --tune, in place of --recall: share of flags that must be right."),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(help="With --tune: how sure the promise is.", show_default="0.9"),
    ] = None
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the rules with their thresholds (.safetensors)."),
    ] = None
    audit: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure the thresholds on another such table; of Stable Diffusion's checker the "
            "column is `unsafe`, of DeepFloyd IF's they are `nsfw` and `watermark`.",
        ),
    ] = None
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="With --audit: column of groups to measure apart."),
    ] = None
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="With --audit: share of all images of your site that show the concept.",
            show_default="that of the table",
        ),
    ] = None

    def check(self) -> None:
        """Raise for a flag that would do nothing."""
        for flag, value, other, needed in (
            ("--recall", self.recall, "--tune", self.tune),
            ("--wanted-precision", self.wanted_precision, "--tune", self.tune),
            ("--confidence", self.confidence, "--tune", self.tune),
            ("--group", self.group, "--audit", self.audit),
            ("--prevalence", self.prevalence, "--audit", self.audit),
        ):
            if value is not None and needed is None:
                raise typer.BadParameter(f"{flag} does nothing without {other} FILE.")
        if self.recall is not None and self.wanted_precision is not None:
            raise typer.BadParameter("give either --recall or --wanted-precision.")
        if self.save and self.save.suffix != SAVED:
            raise typer.BadParameter(f"--save {self.save} must end in {SAVED}.")


@dataclasses.dataclass(frozen=True)
class QueueFlags:
    """Where the images go that a person should see."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help=f"Write the review queue to a {' or '.join(SUFFIXES)} file.",
        ),
    ] = None
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the review queue as one HTML page of pictures."),
    ] = None
    sample: Annotated[
        int,
        typer.Option(min=0, help="Add so many of the other images to the queue, drawn at random."),
    ] = 0
    seed: Annotated[int | None, typer.Option(help="Of that sample.", show_default="0")] = None

    def check(self, images: list[str] | None) -> None:
        """Raise for a flag that would do nothing."""
        if not images and (self.out or self.page or self.sample):
            raise typer.BadParameter("--out, --page and --sample need images to moderate.")
        if self.sample and not (self.out or self.page):
            raise typer.BadParameter("--sample does nothing without --out or --page.")
        if self.seed is not None and not self.sample:
            raise typer.BadParameter("--seed does nothing without --sample.")
