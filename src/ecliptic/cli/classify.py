"""`ecliptic classify`: which of given labels fits each picture."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.options import Json, ModelOptions, expands
from ecliptic.cli.output import print_json, print_table, readable, say
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.engine import Clip


@expands
def classify(
    *,
    images: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Pictures, or folders of pictures.")
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Labels with commas between them.")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with one label a line; - is stdin.")
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Prompts around each label, averaged: a shipped set, or a file with one a line "
            "and {} for the label.",
            show_default="the bare label",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Labels per picture.")] = 5,
    model: ModelOptions,
    json: Json = False,
) -> None:
    """Give the probability of each label for each picture.

    The labels share 100 %, so one that fits belongs among them.
    """
    names = _labels(labels, labels_file)
    clip = model.clip()
    classifier = clip.text_classifier(names, _templates(templates))
    results = list(_classified(clip, images, names, classifier, top_k))
    rejected = [result for result in results if "reason" in result]
    for result in rejected:
        say(f"rejected {result['image']}: {result['reason']}")
    if json:
        print_json(results)
    else:
        kept = [result for result in results if "labels" in result]
        columns = ("picture", *("label", "% ") * min(top_k, len(names)))
        print_table(columns, map(_row, kept))
    if len(rejected) == len(results):
        raise InputError("none of the pictures could be used.")
    leave(REJECTED, when=bool(rejected))


def _labels(labels: str | None, file: Path | None) -> list[str]:
    from ecliptic.cli.lines import lines_of

    if (labels is None) == (file is None):
        raise typer.BadParameter("give either --labels a,b,c or --labels-file FILE.")
    if labels is not None and os.path.isfile(labels):  # noqa: PTH113 Path.is_file fails on long ones
        raise typer.BadParameter(
            f"--labels {labels} is a file; read its lines with --labels-file {labels}, or write "
            f"{labels!r} with a comma behind it for a label of that name."
        )
    given = [line for _, line in lines_of(file)] if file else (labels or "").split(",")
    names = [label.strip() for label in given if label.strip()]
    if not names:
        raise InputError("no labels are given; write at least one, as in --labels cat,dog.")
    if len(names) == 1:
        say(f"warning: {names[0]!r} is the only label, so it gets 100 % of every picture")
    return names


def _templates(name: str | None) -> str | list[str] | None:
    """The lines of a file called `name`, or `name` itself for a shipped set."""
    from ecliptic.cli.lines import lines_of

    if name is None or not Path(name).is_file():
        return name
    return [line for _, line in lines_of(name)]


def _classified(
    clip: "Clip", images: list[str], labels: list[str], classifier: "Tensor", top_k: int
) -> Iterator[dict[str, Any]]:
    """{"image", "labels"} of each picture in order, or {"image", "reason"}."""
    from ecliptic.cli.entries import pictures
    from ecliptic.scoring import cosine, probabilities

    paths = [entry.value for path in images for entry in pictures(path)]
    scale = float(clip.model.logit_scale.detach().exp())
    for part in clip.stream_image(paths, on_error="reject"):
        found = probabilities(cosine(part.vectors, classifier), scale)  # (N, L)
        best, places = found.topk(min(top_k, len(labels)))
        rows: dict[int, dict[str, Any]]
        rows = {reject.index: {"reason": reject.reason} for reject in part.rejected}
        rows |= {
            index: {"labels": _ranked([labels[i] for i in row], values)}
            for index, row, values in zip(part.kept, places.tolist(), best.tolist(), strict=True)
        }
        for index in sorted(rows):
            yield {"image": readable(paths[index])} | rows[index]


def _ranked(labels: list[str], values: list[float]) -> list[dict[str, Any]]:
    pairs = zip(labels, values, strict=True)
    return [{"label": label, "probability": round(value, 6)} for label, value in pairs]


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    cells = [(one["label"], f"{100 * one['probability']:.1f}") for one in result["labels"]]
    return (result["image"], *(cell for pair in cells for cell in pair))
