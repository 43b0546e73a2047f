"""`ecliptic classify`: how well each of the given labels fits each image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Json, ModelFlags, expands
from ecliptic.cli.output import print_json, print_table, say
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.engine import Clip, Rejects


@expands
def classify(
    *,
    images: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Images, or folders of images.")
    ],
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="Labels, separated by commas.")
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with one label per line; - is stdin.")
    ] = None,
    templates: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Prompt templates, averaged: a built-in set, or a file with one template per line "
            "and {} for the label.",
            show_default="the bare label",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Labels per image.")] = 5,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Give the probability of each label for each image.

    The probabilities of an image add up to 100 %, so include a label that fits.
    """
    names = _read_labels(labels, labels_file)
    clip = model.clip()
    classifier = clip.text_classifier(names, _read_templates(templates))
    kept, rejects = _classify(clip, images, names, classifier, top_k)
    for line in rejects.lines(shown=len(rejects)):
        say(line)
    if json:
        failed = {r.index: {"image": r.source, "reason": r.reason} for r in rejects}
        print_json([row for _, row in sorted({**kept, **failed}.items())])
    else:
        columns = ("image", *("label", "% ") * min(top_k, len(names)))
        print_table(columns, map(_row, kept.values()))
    if not kept:
        raise InputError("none of the images could be used.")
    leave(REJECTED, when=len(rejects) > 0)


def _read_labels(labels: str | None, file: Path | None) -> list[str]:
    from ecliptic.cli.texts import is_file
    from ecliptic.engine import read_lines

    if (labels is None) == (file is None):
        raise typer.BadParameter("give either --labels a,b,c or --labels-file FILE.")
    if labels is not None and is_file(labels):
        raise typer.BadParameter(
            f"--labels {labels} is a file; read its lines with --labels-file {labels}, or write "
            f"{labels!r} with a comma after it for a label of that name."
        )
    given = [line for _, line in read_lines(file)] if file else (labels or "").split(",")
    names = [label.strip() for label in given if label.strip()]
    if not names:
        raise InputError("no labels are given; write at least one, as in --labels cat,dog.")
    if len(names) == 1:
        say(f"warning: {names[0]!r} is the only label, so its probability is always 100 %")
    return names


def _read_templates(name: str | None) -> str | list[str] | None:
    """The lines of a file called `name`, or `name` itself for a shipped set."""
    from ecliptic.cli.texts import is_file
    from ecliptic.engine import read_lines

    if name is None or not is_file(name):
        return name
    return [line for _, line in read_lines(name)]


def _classify(
    clip: "Clip", paths: list[str], labels: list[str], classifier: "Tensor", top_k: int
) -> "tuple[dict[int, dict[str, Any]], Rejects]":
    """{"image", "labels"} of each usable image by its position, and the rejected images."""
    from ecliptic.engine import Rejects, image_files
    from ecliptic.scoring import cosine, probabilities

    items = [item for path in paths for item in image_files(path)]
    scale = float(clip.model.logit_scale.detach().exp())
    rows: dict[int, dict[str, Any]] = {}
    rejects = Rejects()
    for part in clip.stream_image([item.value for item in items], on_error="reject"):
        found = probabilities(cosine(part.vectors, classifier), scale)  # (N, L)
        best, places = found.topk(min(top_k, len(labels)))
        for index, row, values in zip(part.kept, places.tolist(), best.tolist(), strict=True):
            ranked = [
                {"label": labels[i], "probability": round(value, 6)}
                for i, value in zip(row, values, strict=True)
            ]
            rows[index] = {"image": items[index].name, "labels": ranked}
        for reject in part.rejected:
            rejects.add(reject.index, items[reject.index].name, reject.error)
    return rows, rejects


def _row(result: dict[str, Any]) -> tuple[str, ...]:
    cells = [(one["label"], f"{100 * one['probability']:.1f}") for one in result["labels"]]
    return (result["image"], *(cell for pair in cells for cell in pair))
