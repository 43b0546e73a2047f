"""Flags of `ecliptic classify` that fit, judge, save and use a classifier."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import checks_usage
from ecliptic.errors import did_you_mean
from ecliptic.settings import apply_overrides, from_dict

if TYPE_CHECKING:
    from ecliptic.tasks import Promises

PER_LABEL, SEVERAL, TREE, CONFIDENCE = "per-label", "several", "tree", "confidence"
NO_CONFIDENCE = (CONFIDENCE, TREE, "sets")  # rules that no confidence is about
PATH_STEP = ">"  # in the path of a label in a tree


@dataclasses.dataclass(frozen=True)
class ClassifierFlags:
    """Labelled images, and what to learn from them."""

    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Learn from a table of labelled images, with the columns `image` (or --column) "
            "and `label`.",
        ),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="How to learn, words separated by commas: temperature, platt or isotonic for the "
            "probabilities; probe or tip-adapter to learn what the labels look like; per-label for "
            "a curve of each; several for several labels per image, separated by ; in the table.",
            show_default="temperature, or platt with several",
        ),
    ] = None
    abstain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE=SHARE",
            help="What to promise; repeat for more. accuracy=0.95 of its answers, answered=0.8 of "
            "images, sets=0.9 that hold the right label, known=0.95 of the labels' images kept "
            'from "none of these"; tree=0.8 for labels such as animal > cat; precision or recall '
            "of each of several labels; confidence=0.9 of all these.",
        ),
    ] = None
    save: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what --calibrate learned (.safetensors)."),
    ] = None
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="In place of labels: what --save wrote."),
    ] = None
    evaluate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Judge the answers on another table of labelled images."),
    ] = None
    page: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --evaluate: write the report as one HTML page."),
    ] = None

    def used(self) -> bool:
        """Whether any of them is given."""
        return any(getattr(self, field.name) for field in dataclasses.fields(self))

    def inputs(self) -> list[str | Path]:
        """Every path that is read."""
        return [path for path in (self.calibrate, self.classifier, self.evaluate) if path]

    def outputs(self) -> list[Path]:
        """Every path that is written."""
        return [path for path in (self.save, self.page) if path]

    def check(self) -> None:
        """Raise for a flag that would do nothing, and for a value that is not known."""
        if self.classifier and self.calibrate:
            raise typer.BadParameter(
                "--classifier has learned already; give either it or --calibrate."
            )
        for flag, value in (("--method", self.method), ("--save", self.save)):
            if value is not None and self.calibrate is None:
                raise typer.BadParameter(f"{flag} does nothing without --calibrate FILE.")
        if self.page and not self.evaluate:
            raise typer.BadParameter("--page does nothing without --evaluate FILE.")
        if self.page and self.page.suffix.lower() not in (".html", ".htm"):
            raise typer.BadParameter(f"--page {self.page} must end in .html.")
        for flag, path in (("--calibrate", self.calibrate), ("--evaluate", self.evaluate)):
            _check_table(flag, path)
        self._check_rules(self._rules())
        self.promises()
        self.settings()
        self.read_sure()

    def _check_rules(self, rules: dict[str, Any]) -> None:
        """Raise for a rule of --abstain that would do nothing."""
        learned = [name for name in rules if name != TREE]
        if learned and self.calibrate is None:
            fix = "add --calibrate FILE"
            if self.classifier:
                fix = f"give --calibrate FILE and labels in place of --classifier {self.classifier}"
            raise typer.BadParameter(
                f"--abstain {learned[0]} is learned from labelled images; {fix}."
            )
        if CONFIDENCE in rules and not set(rules) - set(NO_CONFIDENCE):
            raise typer.BadParameter(
                f"--abstain {CONFIDENCE} is about other promises, and none that has one is given; "
                "add accuracy, answered, known, precision or recall, or leave it out."
            )
        if TREE in rules and self.several:
            raise typer.BadParameter(
                f"--abstain {TREE} is for one label per image; leave it or --method {SEVERAL} out."
            )

    def settings(self) -> dict[str, Any]:
        """The arguments of `Classifier.fit` that --method stands for."""
        from ecliptic.tasks import LEARNERS, METHODS

        known = (*METHODS, *LEARNERS, PER_LABEL, SEVERAL)
        words = self._words()
        for word in words:
            if words.count(word) > 1:
                raise typer.BadParameter(f"--method {word} is given twice.")
            if word not in known:
                near = did_you_mean(word, known) or f"known are {', '.join(known)}."
                raise typer.BadParameter(f"--method has no {word!r}; {near}")
        found: dict[str, Any] = {}
        for name, choices in (("method", METHODS), ("few_shot", LEARNERS)):
            given = [word for word in words if word in choices]
            if len(given) > 1:
                raise typer.BadParameter(f"--method takes one of {', '.join(given)}, not both.")
            if given:
                found[name] = given[0]
        return found | ({"per_label": True} if PER_LABEL in words else {})

    @property
    def several(self) -> bool:
        """Whether an image may have several labels."""
        return SEVERAL in self._words()

    def _words(self) -> list[str]:
        return [word.strip() for word in (self.method or "").split(",") if word.strip()]

    def promises(self) -> "Promises":
        """The promises of --abstain."""
        from ecliptic.tasks import Promises

        rules = {name: share for name, share in self._rules().items() if name != TREE}
        with checks_usage():
            return from_dict(Promises, rules, "--abstain")

    def read_sure(self) -> float | None:
        """The probability that a node of a tree must have; None without a tree."""
        share: float | None = self._rules().get(TREE)
        number = isinstance(share, float | int) and not isinstance(share, bool)
        if share is not None and not (number and 0.5 < share <= 1):
            raise typer.BadParameter(
                f"--abstain {TREE}={share} must be more than 0.5 and at most 1, so that two "
                "branches cannot both reach it."
            )
        return share

    def _rules(self) -> dict[str, Any]:
        rules: dict[str, Any] = {}
        for rule in self.abstain or ():
            if not rule.partition("=")[1]:
                raise typer.BadParameter(
                    f"--abstain {rule} needs the form RULE=SHARE, such as answered=0.8."
                )
        with checks_usage():
            apply_overrides(rules, self.abstain or ())
        given = [rule.partition("=")[0].strip() for rule in self.abstain or ()]
        if twice := [name for name in rules if given.count(name) > 1]:
            raise typer.BadParameter(f"--abstain {twice[0]} is given twice.")
        return rules


def _check_table(flag: str, path: Path | None) -> None:
    from ecliptic.engine import STDIN, is_table

    if path is not None and str(path) != STDIN and not is_table(str(path)):
        raise typer.BadParameter(
            f"{flag} {path} must be a table whose name ends in .csv, .tsv, .jsonl or .parquet, or "
            "- for lines of JSON on standard input."
        )


def split_paths(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """The steps of labels such as "animal > cat"."""
    return [tuple(step.strip() for step in label.split(PATH_STEP)) for label in labels]
