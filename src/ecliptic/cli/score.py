"""`ecliptic score`: how well images fit their captions, and which of two generators fits better."""

import dataclasses
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ecliptic.cli.exits import INTERRUPTED, REJECTED, checks_usage, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, expands
from ecliptic.cli.output import count, on_terminal, rejects_of, say
from ecliptic.cli.score_flags import EXAMPLES, LEVEL, SETS, ScoreFlags, ScorePaths, UncertaintyFlags
from ecliptic.cli.score_printing import (
    PerItem,
    files_of_items,
    print_set_score,
    print_summary,
    print_systems,
    report_sheet,
    write_items,
)
from ecliptic.cli.sources import STORED, ImageSources

if TYPE_CHECKING:
    from ecliptic.cli.gathering import NamedVectors
    from ecliptic.engine import Clip, Rejects
    from ecliptic.scoring import Rows
    from ecliptic.tasks import ImageFolder, RowColumns, ScoreSheet


@expands
def score(
    *,
    paths: ScorePaths,
    scores: ScoreFlags,
    uncertainty: UncertaintyFlags,
    per_item: PerItem = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Score images with their captions, and say how sure the mean is.

    Two folders are compared caption by caption: the difference with its interval, a test, and
    whether there are enough pairs to tell. The first rows that cannot be used are listed on stderr,
    with --per-item all of them in FILE.rejects.jsonl, and the exit code is 3. Ctrl-C stops early;
    --per-item then has the scores so far.
    """
    from ecliptic.storage import check_outputs

    kind = _kind(paths, scores, uncertainty, per_item)
    read = chain(_files(paths), [scores.captions or "", model.model])
    check_outputs(files_of_items(per_item), read, force=force)
    if kind == "sets":
        rejected = _score_sets(paths, scores, uncertainty, model, json=json)
    else:
        rejected = _score_rows(kind, paths, scores, uncertainty, per_item, model, json=json)
    leave(REJECTED, when=rejected)


def _kind(
    paths: list[str], scores: ScoreFlags, uncertainty: UncertaintyFlags, per_item: Path | None
) -> str:
    """What the paths are: "sets", "vectors", "table" or "folders"; else a usage error."""
    kind = _guess(paths, scores.metric)
    captions, metric = scores.captions, scores.metric
    if captions and kind != "folders":
        raise typer.BadParameter(f"--captions belongs to folders of images, not to {paths[0]}.")
    if kind == "sets":
        _check_sets(paths, scores)
    if kind in ("sets", "vectors"):
        flags: dict[str, object] = {"--words": scores.words, "--prefix": scores.prefix}
        if kind == "sets":
            flags |= {"--per-item": per_item, "--examples": uncertainty.examples}
            flags |= {"--level": uncertainty.level if metric != "clip-i" else None}
        else:
            flags |= {"--columns": scores.columns}
            _check_vectors(scores)
        if given := [flag for flag, value in flags.items() if value is not None]:
            raise typer.BadParameter(f"{given[0]} has no effect on {metric} of {kind}.")
        return kind
    columns = scores.row_columns()
    if kind == "table":
        from ecliptic.cli.texts import refuse_missing_files
        from ecliptic.engine import STDIN

        refuse_missing_files(path for path in paths if path != STDIN)
        return kind
    _check_folders(paths, scores, columns)
    return kind


def _guess(paths: list[str], metric: str) -> str:
    from ecliptic.cli.texts import refuse_missing_paths
    from ecliptic.engine import STDIN, is_table

    if metric in SETS:
        if len(paths) != 2:
            raise typer.BadParameter(f"{metric} compares two sets of images; name two paths.")
        return "sets"
    if len(paths) == 1 and (paths[0] == STDIN or is_table(paths[0])):
        return "table"
    if len(paths) == 2 and all(path.endswith(STORED) for path in paths):
        return "vectors"
    if len(paths) <= 2:
        refuse_missing_paths(paths)
    if len(paths) > 2 or not all(Path(path).is_dir() for path in paths):
        raise typer.BadParameter(
            "name one table, one or two folders of images, or the vectors of images and of their "
            f"captions; got {' '.join(paths)}."
        )
    return "folders"


def _check_sets(paths: list[str], scores: ScoreFlags) -> None:
    from ecliptic.engine import is_table

    if set(scores.named()) - {"image"}:
        raise typer.BadParameter(f"{scores.metric} reads only the column of images, image=NAME.")
    if scores.columns and not any(map(is_table, paths)):
        raise typer.BadParameter(
            f"--columns has no effect on {scores.metric} of {' and '.join(paths)}, which are no "
            "tables."
        )


def _check_vectors(scores: ScoreFlags) -> None:
    from ecliptic.tasks import find_metric

    metric = find_metric(scores.metric)
    if metric.columns != ("image", "caption") or metric.by_prompt:
        raise typer.BadParameter(
            f"{metric.name} needs more than vectors of images and of captions; name a table, or "
            "choose clipscore, clip-t or torchmetrics."
        )


def _check_folders(paths: list[str], scores: ScoreFlags, columns: "RowColumns") -> None:
    from ecliptic.cli.texts import refuse_missing_files

    metric = columns.metric
    if metric.texts and scores.captions is None:
        raise typer.BadParameter(
            "the images in a folder need --captions FILE, a table with the columns image and "
            "caption; or name such a table in place of the folder."
        )
    if not metric.texts and (scores.captions or scores.columns):
        raise typer.BadParameter(f"{metric.name} reads no captions of images in folders.")
    if len(metric.images) > 1 or (len(paths) > 1 and not metric.compares):
        raise typer.BadParameter(
            f"{metric.name} needs a table, which names the images of a row."
            + " For two generators use clip-t: of the two images of a caption, the one that is "
            "preferred has the higher cosine." * metric.by_prompt
        )
    if len(paths) == 2 and Path(paths[0]).resolve() == Path(paths[1]).resolve():
        raise typer.BadParameter(
            f"{paths[0]} and {paths[1]} are one folder, which cannot be compared with itself; name "
            "the folders of two generators."
        )
    refuse_missing_files([str(scores.captions)] if scores.captions else [])


def _files(paths: list[str]) -> "Iterator[str | Path]":
    return ImageSources(inputs=paths).files()


def _score_rows(
    kind: str,
    paths: list[str],
    scores: ScoreFlags,
    uncertainty: UncertaintyFlags,
    per_item: Path | None,
    model: ModelFlags,
    *,
    json: bool,
) -> bool:
    """Score rows, print what was found, and return whether some were rejected."""
    from ecliptic.tasks import ImageFolder

    folders = [ImageFolder(path) for path in paths] if kind == "folders" else []
    interrupted = False
    if kind == "vectors":
        model.note_unused()
        sheet = _score_vectors(paths, scores.metric)
    else:
        sheet, interrupted = _score_items(paths, folders, scores, model.clip())
    left = [] if interrupted else [folder.note_left() for folder in folders]
    report_sheet(sheet, left, rejects_of(per_item) if per_item else None)
    if per_item:  # first, because they are the work
        write_items(per_item, sheet)
    if interrupted:
        say(f"interrupted after {count(sheet.complete + len(sheet.rejects), 'row')}")
        leave(INTERRUPTED, when=True)
    level, seed = uncertainty.level or LEVEL, uncertainty.seed
    examples = EXAMPLES if uncertainty.examples is None else uncertainty.examples
    if len(folders) == 2:
        print_systems(sheet, paths, examples, level, seed, json=json)
    else:
        print_summary(sheet.summary(examples, level, seed), json=json)
    return len(sheet.rejects) > 0


def _score_items(
    paths: list[str], folders: "list[ImageFolder]", scores: ScoreFlags, clip: "Clip"
) -> "tuple[ScoreSheet, bool]":
    """The scores, and whether Ctrl-C ended the work."""
    from ecliptic.engine import progress_bar
    from ecliptic.tasks import (
        RowScorer,
        folder_rows,
        image_rows,
        score_rows,
        start_sheet,
        table_rows,
    )

    columns, systems = scores.row_columns(), max(len(folders), 1)
    with checks_usage():
        words, prefix = scores.pair_of_words(), scores.prefix
        scorer = RowScorer(clip, columns.metric, systems, prefix=prefix, words=words)
    if not folders:
        rows = table_rows(paths[0], columns)
    elif scores.captions:
        rows = folder_rows(folders, str(scores.captions), columns)
    else:
        rows = image_rows(folders)
    sheet = start_sheet(scorer)
    try:
        with progress_bar("rows", None, show=on_terminal()) as advance:
            score_rows(scorer, rows, advance, sheet)
    except KeyboardInterrupt:
        return sheet, True
    return sheet, False


def _score_vectors(paths: list[str], metric: str) -> "ScoreSheet":
    from ecliptic.engine import load_vectors
    from ecliptic.tasks import score_vectors

    images, captions = (load_vectors(path) for path in paths)
    return score_vectors(images, captions, metric)


def _score_sets(
    paths: list[str],
    scores: ScoreFlags,
    uncertainty: UncertaintyFlags,
    model: ModelFlags,
    *,
    json: bool,
) -> bool:
    """Score two sets of images, print what was found, and return whether some were rejected."""
    from ecliptic.engine import load_vectors
    from ecliptic.tasks import score_sets

    column = scores.named().get("image")
    sides = [ImageSources(inputs=[path], column=column) for path in paths]
    for side in sides:
        side.check()
    rejects: list[Rejects] = []
    sets: list[Rows]
    if all(side.is_stored(path) for side, path in zip(sides, paths, strict=True)):
        model.note_unused()
        sets = [load_vectors(path) for path in paths]
        name, names = str(sets[0].model), None  # type: ignore[union-attr]
    else:
        gathered, name = _gather_sets(sides, model)
        sets = [one.matrix() for one in gathered]
        names = gathered[0].names, gathered[1].names
        rejects = [one.rejects for one in gathered]
    level, seed = uncertainty.level or LEVEL, uncertainty.seed
    found = score_sets(sets[0], sets[1], scores.metric, level, seed, names)
    print_set_score(dataclasses.replace(found, model=name), rejects, json=json)
    return any(len(some) for some in rejects)


def _gather_sets(sides: list[ImageSources], model: ModelFlags) -> "tuple[list[NamedVectors], str]":
    from ecliptic.cli.gathering import gather

    clip = model.clip()
    gathered = [gather(side, clip) for side in sides]
    for one in gathered:
        one.report()
    return gathered, clip.card.name
