"""The flags of `ecliptic moderate`: what is looked for, labelled images, the review queue."""

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from ecliptic.cli.rankings import SUFFIXES
from ecliptic.errors import EclipticError

SAVED, TOML = ".safetensors", ".toml"  # the suffixes of rules with their thresholds, and of others
PAGES = (".html", ".htm")


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

    @property
    def saved(self) -> bool:
        """Whether the rules have their vectors, and read no images."""
        return self.rules is not None and self.rules.suffix.lower() == SAVED

    def check(self) -> None:
        """Raise for a file that holds no rules, by its suffix."""
        if self.rules and self.rules.suffix.lower() not in (SAVED, TOML):
            raise typer.BadParameter(
                f"--rules {self.rules} must be a {TOML} file of concepts, or a {SAVED} file that "
                "--save wrote."
            )

    def images(self) -> list[str]:
        """The examples and references that are read: files, folders and globs.

        Raises:
            SettingsError, ConfigError: the rules are wrong.
        """
        from ecliptic.tasks import read_rules

        if self.rules is None or self.saved:
            return []
        rules = read_rules(self.rules)
        sides = ((one.examples, one.contrast_examples) for one in rules.concepts)
        return [*rules.reference, *chain.from_iterable(chain.from_iterable(sides))]

    def files(self) -> Iterator[str]:
        """Every file of these images."""
        from ecliptic.engine import image_files

        for path in self.images():
            with suppress(EclipticError):  # encoding it says what is wrong
                yield from (str(item.value) for item in image_files(path, warns=False))


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
            show_default="that of the whole table, for each group too",
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
        if self.save and self.save.suffix.lower() != SAVED:
            raise typer.BadParameter(f"--save {self.save} must end in {SAVED}.")
        self._check_shares()

    def files(self, column: str | None) -> Iterator[str]:
        """Every image of both tables, whose paths stand in `column`."""
        from ecliptic.cli.labelled import IMAGE
        from ecliptic.engine import Columns, read_items

        for table in filter(None, (self.tune, self.audit)):
            with suppress(EclipticError):  # reading it again says what is wrong
                items = read_items(str(table), Columns(column or IMAGE))
                yield from (item.value for item in items if isinstance(item.value, str))

    def _check_shares(self) -> None:
        for flag, share in (
            ("--recall", self.recall),
            ("--wanted-precision", self.wanted_precision),
            ("--confidence", self.confidence),
        ):
            if share is not None and not 0 < share < 1:  # NaN too
                raise typer.BadParameter(
                    f"{flag} must be a share above 0 and below 1, such as 0.9, got {share:g}."
                )
        if self.wanted_precision is not None and (self.confidence or 0.9) < 0.5:
            raise typer.BadParameter(
                f"--confidence of a precision must be at least 0.5, got {self.confidence:g}."
            )
        if self.prevalence is not None and not 0 <= self.prevalence <= 1:
            raise typer.BadParameter(
                f"--prevalence must be a share from 0 to 1, got {self.prevalence:g}."
            )


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
        if self.page and self.page.suffix.lower() not in PAGES:
            raise typer.BadParameter(f"--page {self.page} must end in {' or '.join(PAGES)}.")
        if self.sample and not (self.out or self.page):
            raise typer.BadParameter("--sample does nothing without --out or --page.")
        if self.seed is not None and not self.sample:
            raise typer.BadParameter("--seed does nothing without --sample.")
