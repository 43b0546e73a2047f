"""`ecliptic aesthetic`: which images people like, by a head that is released or trained here."""

import dataclasses
import math
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, check_written, expands
from ecliptic.cli.output import (
    MOST_ROWS,
    count,
    on_terminal,
    print_facts,
    print_first,
    print_json,
    rejects_of,
    say,
    say_rejects,
)
from ecliptic.cli.rankings import ResultsFile, files_of, write_table
from ecliptic.cli.sources import ImageSources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecliptic.cli.gathering import NamedVectors
    from ecliptic.engine import Clip
    from ecliptic.tasks import (
        AestheticHead,
        ChoiceReport,
        HeadFit,
        RatingReport,
        RatingTable,
        ScoredImage,
    )

NO_HEAD = (
    "give a head with --head FILE. None comes with ecliptic: nobody has published ratings of "
    "drawings. Rate some images, and train your own: --train ratings.csv --save head.safetensors; "
    "or see docs/aesthetics.md for the released ones of ViT-L-14/openai."
)
Page = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a contact sheet of the best images, one HTML file."),
]


@dataclasses.dataclass(frozen=True)
class HeadFlags:
    """The head: a file, or a table to train it on."""

    head: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A head: a released one, or one of --save."),
    ] = None
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="ARCH/TAG",
            help="The model of a head that is not known, as in `ecliptic models`.",
        ),
    ] = None
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Train a head: a table with the columns image and rating, or better and worse; "
            "a column group keeps images of one author or series together.",
        ),
    ] = None
    save_head: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Save the trained head, a .safetensors."),
    ] = None

    def check(self) -> None:
        """Raise a usage error for flags that do not go together."""
        if self.head is None and self.train is None:
            raise typer.BadParameter(NO_HEAD)
        if self.head is not None and self.train is not None:
            raise typer.BadParameter("give either --head FILE or --train TABLE.")
        for flag, given, other in (
            ("--save", self.save_head, self.train and "--train"),
            ("--backbone", self.backbone, self.head and "--head"),
        ):
            if given is not None and not other:
                wanted = "--train TABLE" if flag == "--save" else "--head FILE"
                raise typer.BadParameter(f"{flag} has no effect without {wanted}.")
        if self.save_head is not None and self.save_head.suffix != ".safetensors":
            raise typer.BadParameter(f"--save {self.save_head} must end in .safetensors.")

    def outputs(self) -> list[Path]:
        """Every file that is written."""
        return [] if self.save_head is None else [self.save_head, rejects_of(self.save_head)]

    def inputs(self) -> list[Path]:
        """Every file that is read."""
        return [path for path in (self.head, self.train) if path is not None]


@expands
def aesthetic(
    *,
    sources: ImageSources,
    chosen: HeadFlags,
    least: Annotated[
        float | None,
        typer.Option("--min", metavar="SCORE", help="Keep only images with at least this score."),
    ] = None,
    best: Annotated[
        int | None, typer.Option("--best", min=1, metavar="N", help="Keep only the N best images.")
    ] = None,
    page: Page = None,
    out: ResultsFile = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Score images by how much people like such images, and rank them.

    A head gives the score. It works only with the vectors of its own model, and likes what the
    people like whose ratings it was trained on. With --train, a head is fitted to your ratings,
    and tested on images that it has not seen.

    Images and rows that cannot be used are listed on stderr, with --out or --save also in
    FILE.rejects.jsonl, and the exit code is 3.
    """
    chosen.check()
    _check_images(sources, chosen, {"--min": least, "--best": best, "--page": page, "--out": out})
    from ecliptic.tasks import keep_best, read_ratings

    table = read_ratings(str(chosen.train)) if chosen.train else None
    rated = table.files() if table else ()
    read = chain(sources.files(), chosen.inputs(), rated, [model.model])
    outputs = [*chosen.outputs(), *files_of(out), *([page] if page else [])]
    check_written(outputs, read, force=force, flags="--out, --page or --save")
    head, fit, clip = _find_head(sources, chosen, table, model, force=force)
    side, ranked = _rank(sources, head, clip, out) if sources.inputs else (None, [])

    kept = keep_best(ranked, least, best)
    if json:
        print_json(_to_json(head, fit, side, ranked, kept))
    else:
        _print(head, fit, side, ranked, kept, out, best)
    _write(head, side, ranked, kept, out, page)
    leave(REJECTED, when=any(one is not None and len(one.rejects) for one in (table, side)))


def _check_images(sources: ImageSources, chosen: HeadFlags, given: dict[str, Any]) -> None:
    """Check the paths and --min; without paths, a usage error for flags that are about images."""
    if (least := given["--min"]) is not None and not math.isfinite(least):
        raise typer.BadParameter(f"--min must be a finite number, got {least}.")
    if (page := given["--page"]) is not None and page.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"--page {page} must end in .html.")
    if sources.inputs or chosen.train is None:
        sources.check()
        return
    given |= {"--column": sources.column, "--id": sources.id_column}
    if used := [flag for flag, value in given.items() if value is not None]:
        raise typer.BadParameter(f"{used[0]} has no effect without images; name some as PATH.")


def _find_head(
    sources: ImageSources,
    chosen: HeadFlags,
    table: "RatingTable | None",
    model: ModelFlags,
    *,
    force: bool,
) -> "tuple[AestheticHead, HeadFit | None, Clip | None]":
    """The head; how good it is if it was trained now; the model, if it is used."""
    from ecliptic.tasks import AestheticHead

    if table is None:
        head = AestheticHead.load(str(chosen.head), chosen.backbone)
        if all(map(sources.is_stored, sources.inputs or ())):
            model.note_unused()
            return head, None, None
        clip = model.clip()
        head.check(clip.card)
        return head, None, clip
    if table.unused:
        say(f"note: columns that are not used: {', '.join(table.unused)}")
    clip = model.clip()
    fit = _train(table, clip, chosen.save_head)
    if chosen.save_head is not None:
        fit.head.save(chosen.save_head, overwrite=force)
        say(f"head for {fit.head.model} in {chosen.save_head}")
    else:
        say("note: the head is not saved; add --save head.safetensors")
    return fit.head, fit, clip


def _train(table: "RatingTable", clip: "Clip", save: Path | None) -> "HeadFit":
    """Train a head on the rows that can be used, and list the others."""
    from ecliptic.engine import progress_bar
    from ecliptic.tasks import encode_ratings

    rows = len(table.rows) + len(table.rejects)
    with progress_bar("images", None, show=on_terminal()) as advance:
        rated = encode_ratings(table, clip, advance)
    say_rejects(table.rejects, None if save else len(table.rejects))
    if save is not None:
        table.rejects.write(rejects_of(save))
    say(f"{len(rated.vectors):,} of {count(rows, 'row')} used")
    return rated.fit(clip.card, name=save.stem if save else "own head")


def _rank(
    sources: ImageSources, head: "AestheticHead", clip: "Clip | None", out: Path | None
) -> "tuple[NamedVectors, list[ScoredImage]]":
    """The vectors of all images, and the images by score, best first."""
    from ecliptic.cli.gathering import gather
    from ecliptic.engine import load_vectors
    from ecliptic.errors import InputError, NumericalError
    from ecliptic.tasks import rank_images

    if clip is None:
        for path in sources.inputs or ():
            head.check_vectors(load_vectors(path))
    side = gather(sources, clip)
    lengths = side.matrix().norm(dim=-1) if side.names else None
    kept = list[int]() if lengths is None else lengths.nonzero()[:, 0].tolist()
    for row in sorted({*range(len(side.names))} - {*kept}):
        error = NumericalError("the vector is all zeros, so it has no score.")
        side.rejects.add(side.places[row], side.names[row], error)
    say_rejects(side.rejects, len(side.rejects))
    if not kept:
        if out is not None:
            side.rejects.write(rejects_of(out))
        raise InputError("none of the items could be used.")
    names, files = [side.names[row] for row in kept], [side.images[row] for row in kept]
    return side, rank_images(names, head.apply(side.matrix()[kept]), files)


def _print(
    head: "AestheticHead",
    fit: "HeadFit | None",
    side: "NamedVectors | None",
    ranked: "Sequence[ScoredImage]",
    kept: "Sequence[ScoredImage]",
    out: Path | None,
    best: int | None,
) -> None:
    if fit is not None:
        print_facts(_describe(fit.report))
    if head.doubtful:
        say(
            "warning: on images that it has not seen, this head is not surely better than "
            "chance; rate more images, or other ones"
        )
    if side is None:
        return
    from ecliptic.tasks import count_digits

    digits = count_digits([one.score for one in ranked], least=3)
    rows = [(one.rank, f"{one.score:.{digits}f}", one.name) for one in kept]
    print_first(("rank ", "score ", "image"), rows, out, max(best or 0, MOST_ROWS))
    if left := len(ranked) - len(kept):
        say(f"{count(len(kept), 'image')} of {len(ranked):,} kept, {left:,} left out")
    if not kept:
        low, high = (f"{ranked[end].score:.{digits}f}" for end in (-1, 0))
        say(f"note: the scores are from {low} to {high}; lower --min")


def _describe(report: "RatingReport | ChoiceReport") -> dict[str, object]:
    """What a training found, for people."""
    from ecliptic.tasks import RatingReport

    if isinstance(report, RatingReport):
        return _describe_ratings(report)
    return _describe_choices(report)


def _describe_ratings(report: "RatingReport") -> dict[str, object]:
    merged = f" ({report.merged} more ratings of the same, averaged)" * (report.merged > 0)
    others = f"{report.agreement:.2f}, of as many other people" if report.agreement else ""
    return {
        "rated images": f"{report.images:,}{merged}",
        **_describe_groups(report.groups),
        **({"agreement": others} if others else {}),
        "Spearman": f"{report.spearman.show('{:.2f}')}, 1 is the order of the ratings",
        "Pearson": f"{report.pearson:.2f}",
        "mean error": f"{report.error:.3f}; of always the mean rating: {report.guessing:.3f}",
        "learning curve": f"{_describe_curve(report.curve)} (images: Spearman)",
        "penalty": _describe_penalty(report.alpha, report.limit),
    }


def _describe_choices(report: "ChoiceReport") -> dict[str, object]:
    groups = _describe_groups(report.groups)
    if not groups and report.units < report.pairs:
        shared = "the same two images" if report.seen else "shared images"
        groups = {"parts": f"{report.units:,} of choices with {shared}, each tested as a whole"}
    seen = "; the same images are in other pairs, so new images may be harder"
    return {
        "choices": f"{report.pairs:,} of {report.images:,} images" + seen * report.seen,
        **groups,
        "accuracy": f"{report.accuracy.show('{:.2f}')}, 0.5 is chance",
        "log loss": f"{report.loss:.3f}; of chance: 0.693",
        "learning curve": f"{_describe_curve(report.curve)} (choices: accuracy)",
        "penalty": _describe_penalty(report.alpha, report.limit),
    }


def _describe_groups(groups: int | None) -> dict[str, object]:
    return {} if groups is None else {"groups": f"{groups}, each tested as a whole"}


def _describe_curve(curve: "Sequence[tuple[int, float]]") -> str:
    return ", ".join(f"{size:,}: {value:.2f}" for size, value in curve)


def _describe_penalty(alpha: float, limit: str) -> str:
    """With a note where a penalty beyond those that are tried may be better."""
    return f"{alpha:g}" + (f", the {limit} that is tried" if limit else "")


def _to_json(
    head: "AestheticHead",
    fit: "HeadFit | None",
    side: "NamedVectors | None",
    ranked: "Sequence[ScoredImage]",
    kept: "Sequence[ScoredImage]",
) -> dict[str, Any]:
    about: dict[str, Any] = {"head": {"name": head.name, "model": head.model}}
    if fit is not None:
        about["training"] = dict(head.training)
    if side is not None:
        about["images"] = [one.to_json() for one in kept]
        about |= {"scored": len(ranked), "rejected": side.rejects.to_json()}
    return about


def _write(
    head: "AestheticHead",
    side: "NamedVectors | None",
    ranked: "Sequence[ScoredImage]",
    kept: "Sequence[ScoredImage]",
    out: Path | None,
    page: Path | None,
) -> None:
    if out is not None and side is not None:
        rows = [one.to_json() for one in kept]
        write_table(out, ("image", "rank", "score"), rows, side.rejects)
    if page is not None:
        from ecliptic.report import write_best_of

        write_best_of(page, kept, ranked, head)
        say(f"contact sheet in {page}")
