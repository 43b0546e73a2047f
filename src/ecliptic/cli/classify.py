"""`ecliptic classify`: how well each of the given labels fits each image."""

import dataclasses
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.classifier_flags import PATH_STEP, TREE, ClassifierFlags
from ecliptic.cli.completion import complete_templates
from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import MINI_NOTE, Force, Json, ModelFlags, check_written, expands
from ecliptic.cli.output import print_json, say
from ecliptic.cli.rankings import (
    Ranking,
    RankingKind,
    ResultsFile,
    files_of,
    print_blocks,
    print_matrix,
    rank,
    write_rankings,
)
from ecliptic.cli.sources import ImageSources

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.cli.gathering import NamedVectors
    from ecliptic.engine import Clip

Calibrated = Annotated[
    bool | None,
    typer.Option(
        "--calibrated/--no-calibrated",
        help='Also give the probability of "none of these", by the calibration of the model; '
        "or compare the labels with each other alone.",
        show_default="calibrated, if the model has a calibration",
    ),
]
TopLabels = Annotated[
    int | None,
    typer.Option("--top-k", "-k", min=1, help="Labels per image, best first.", show_default="5"),
]
TOP = 5
SHARES = RankingKind("image", "label", "probability", digits=6, pattern="{:.1%}")
MOST_COLUMNS = 8  # labels beside each other


@dataclasses.dataclass(frozen=True)
class LabelFlags:
    """The labels, and the sentences that are made of them."""

    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Labels, separated by commas.")
    ] = None
    labels_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with one label per line; - is stdin.")
    ] = None
    templates: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Prompt templates, averaged: a built-in set, or a file with one template per line "
            "and {} for the label.",
            show_default="the bare label",
            autocompletion=complete_templates,
        ),
    ] = None

    def files(self) -> list[str | Path]:
        """Every path that is read."""
        return [self.labels_file or "", self.templates or ""]

    def names(self) -> list[str]:
        """The labels without those that read the same as an earlier one."""
        from ecliptic.cli.texts import read_list
        from ecliptic.inputs import fold_label

        labels = read_list(self.labels, self.labels_file, "labels")
        if labels is None:
            raise typer.BadParameter("give either --labels a,b,c or --labels-file FILE.")
        if not labels:
            raise typer.BadParameter(
                "no labels are given; write at least one, as in --labels cat,dog."
            )
        names: dict[str, str] = {}
        for label in labels:
            same = names.setdefault(fold_label(label), label)
            if same is not label:
                say(f"note: the label {label!r} reads the same as {same!r}, so it counts once")
        return list(names.values())

    def sentences(self) -> str | list[str] | None:
        """The templates in a file, or the name of a built-in set."""
        from ecliptic.cli.texts import is_file, refuse_missing_file
        from ecliptic.engine import read_lines

        if self.templates is None:
            return None
        if is_file(self.templates):
            return [line for _, line in read_lines(self.templates)]
        refuse_missing_file(self.templates, instead="put it into a file")
        return self.templates


@expands
def classify(
    *,
    sources: ImageSources,
    labels: LabelFlags,
    fitted: ClassifierFlags,
    top_k: TopLabels = None,
    out: ResultsFile = None,
    force: Force = False,
    calibrated: Calibrated = None,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Give the probability of each label for each image.

    The probabilities of an image add up to 100 %. A model with a calibration in its card, such as
    mini, says "none of these" where no label fits; without one, include a label that fits.

    With --calibrate it learns from labelled images how sure to be, and when to abstain; --save
    keeps that for --classifier, and --evaluate judges it. Images that cannot be used are listed on
    stderr, with --out also in FILE.rejects.jsonl, and the exit code is 3.
    """
    _check_ids(sources)
    if fitted.used():
        task = (sources, fitted, top_k, out, force, json)
        _use_classifier(task, labels, model, calibrated)
        return
    sources.check()
    names, top_k = _take_names(labels), top_k or TOP
    from ecliptic.cli.gathering import gather

    read = chain(sources.files(), labels.files(), [model.model])
    check_written(files_of(out), read, force=force, flags="--out")
    _note_model(model, sources)
    clip = model.clip()
    shown = _add_none(clip, names, calibrated)
    texts = clip.text_classifier(names, labels.sentences())
    (side := gather(sources, clip)).report()
    rankings = _rank(clip, side, shown, texts, top_k, calibrated)
    if json:
        _print_json(side, rankings)
    else:
        _print(rankings, shown, top_k)
    if out:
        write_rankings(out, rankings, SHARES, side.rejects)
    leave(REJECTED, when=len(side.rejects) > 0)


def _take_names(labels: LabelFlags) -> list[str]:
    """The labels; a note names one that looks like a path in a tree."""
    names = labels.names()
    if paths := [name for name in names if PATH_STEP in name]:
        say(f"note: {paths[0]!r} is taken as one label; add --abstain {TREE}=0.8 for a tree")
    return names


def _use_classifier(
    task: "tuple[ImageSources, ClassifierFlags, int | None, Path | None, bool, bool]",
    labels: LabelFlags,
    model: ModelFlags,
    calibrated: bool | None,
) -> None:
    """The command with flags of a classifier."""
    sources, fitted, top_k, out, force, json = task
    if calibrated is not None:
        raise typer.BadParameter(
            "--calibrated is about the calibration of the model; leave it out beside a classifier."
        )
    if top_k is not None and not sources.inputs:
        raise typer.BadParameter("--top-k is for the answers about PATH; leave it out.")
    given = (labels.labels, labels.labels_file, labels.templates)
    if fitted.classifier and any(value is not None for value in given):
        raise typer.BadParameter("--classifier has its own labels and templates; leave them out.")
    names = None if fitted.classifier else labels.names()
    from ecliptic.cli.classifier import ClassifierTask, run_classifier

    asked = ClassifierTask(sources, fitted, top_k or TOP, out, force, json)
    asked.check([*labels.files(), model.model])
    others = fitted.calibrate is not None or fitted.evaluate is not None
    _note_model(model, sources, others=others, fitted=names is None)
    run_classifier(asked, names, labels.sentences(), model)


def _check_ids(sources: ImageSources) -> None:
    """Raise if ids are asked for, and there is no table that could have them."""
    from ecliptic.engine import is_table

    if sources.id_column and not any(map(is_table, sources.inputs or ())):
        raise typer.BadParameter(
            "--id names a column of a table among PATH, but none is a table; leave it out."
        )


def _note_model(
    model: ModelFlags, sources: ImageSources, *, others: bool = False, fitted: bool = False
) -> None:
    """Say what the embedded model knows, or which flags do nothing because no image is read.

    Args:
        model: the flags of the model.
        sources: PATH.
        others: whether images of other flags are read too.
        fitted: whether a classifier answers, which was fitted on images of the user.
    """
    stored = bool(sources.inputs) and all(map(sources.is_stored, sources.inputs or ()))
    if stored and not others:
        model.note_unused_pixels()
    elif model.model == ModelFlags.model and not fitted:
        say(MINI_NOTE)


def _add_none(clip: "Clip", labels: list[str], calibrated: bool | None) -> list[str]:
    """The labels, and "none of these" if the model can say it."""
    from ecliptic.inputs import fold_label
    from ecliptic.scoring import NONE_OF_THESE

    if clip.card.choose_calibration(calibrated) is not None:
        if NONE_OF_THESE in map(fold_label, labels):
            raise typer.BadParameter(
                f'the model gives the probability of "{NONE_OF_THESE}" itself; leave that label '
                "out, or use --no-calibrated."
            )
        return [*labels, NONE_OF_THESE]
    if len(labels) == 1:
        say(f"warning: {labels[0]!r} is the only label, so its probability is always 100 %")
    return labels


def _rank(
    clip: "Clip",
    side: "NamedVectors",
    shown: list[str],
    classifier: "Tensor",
    top_k: int,
    calibrated: bool | None,
) -> list[Ranking]:
    """The best labels of each image, in order."""
    from ecliptic.scoring import add_none, cosine

    names = iter(side.names)
    found: list[Ranking] = []
    for block in side.blocks():
        values = clip.probabilities(cosine(block, classifier), calibrated=calibrated)  # (n, L)
        if len(shown) > len(classifier):
            values = add_none(values)
        found += rank(islice(names, len(block)), values, shown, top_k)
    return found


def _print(rankings: list[Ranking], labels: list[str], top_k: int) -> None:
    """Print a column per label for several images and few labels, else a line per label."""
    if len(rankings) > 1 and len(labels) <= min(top_k, MOST_COLUMNS):
        values = [dict(one.best) for one in rankings]
        rows = [[shares[label] for label in labels] for shares in values]
        if print_matrix([one.name for one in rankings], labels, rows, SHARES):
            return
    print_blocks(rankings, SHARES, top_k)


def _print_json(side: "NamedVectors", rankings: list[Ranking]) -> None:
    """Print the rankings, and the rejects in their places."""
    shown = {place: SHARES.to_json(one) for place, one in zip(side.places, rankings, strict=True)}
    shown |= {bad.index: {"image": bad.source, "reason": bad.reason} for bad in side.rejects}
    print_json([row for _, row in sorted(shown.items())])
