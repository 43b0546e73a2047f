"""`ecliptic similarity`: cosines of texts, images and stored vectors."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, check_written, expands
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
from ecliptic.cli.sources import ItemSources

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.cli.gathering import NamedVectors

COSINES = RankingKind("row", "column", "cosine", digits=6, pattern="{:.3f}")
MOST_COLUMNS = 10  # beside each other; with more, each row shows only the BEST
BEST = 5
PLOTS = {  # suffix -> Pillow's name of the format
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pdf": "PDF",
}


TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        "-k",
        min=1,
        help="Nearest columns of each row, best first.",
        show_default="all, or 5 if they do not fit on the screen",
    ),
]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the matrix as an image.")]


@expands
def similarity(
    *,
    sources: ItemSources,
    top_k: TopK = None,
    out: ResultsFile = None,
    plot: Plot = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Show the cosines of texts, images and stored vectors.

    The texts are the rows; the items of PATH... are the columns. If only one of the two is given,
    it is compared with itself. Items that cannot be used are listed on stderr, with --out also in
    FILE.rejects.jsonl, and the exit code is 3.
    """
    sources.check()
    from ecliptic.scoring import cosine

    outputs = [*files_of(out), *_files_of_plot(plot)]
    read = chain(sources.files(), [model.model])
    check_written(outputs, read, force=force, flags="--out or --plot")
    rows, columns = _encode(sources, model)
    cosines = cosine(rows.matrix(), columns.matrix())  # (R, C)
    most = len(columns.names) if out else BEST
    rankings = _rank(rows, columns, cosines, top_k or most)
    if json:
        found: dict[str, Any] = {"rows": rows.names, "columns": columns.names}
        if top_k:
            found["nearest"] = [COSINES.to_json(one) for one in rankings]
        else:
            found["cosines"] = cosines.tolist()
        print_json(found)
    elif top_k or not _print_matrix(rows, columns, cosines):
        print_blocks(rankings, COSINES, top_k or BEST)
    if out:
        write_rankings(out, rankings, COSINES, columns.rejects)
    if plot:
        _plot(plot, cosines, rows, columns)
    leave(REJECTED, when=len(columns.rejects) > 0)


def _files_of_plot(path: Path | None) -> list[Path]:
    """The file of the plot; a usage error for an unknown suffix."""
    if path and path.suffix.lower() not in PLOTS:
        raise typer.BadParameter(f"--plot {path} must end in one of {', '.join(PLOTS)}.")
    return [path] if path else []


def _encode(sources: ItemSources, model: ModelFlags) -> "tuple[NamedVectors, NamedVectors]":
    """Encode the texts (rows) and the paths (columns); if one is missing, the other is both."""
    from ecliptic.cli.gathering import gather, gather_texts

    paths = sources.inputs or []
    stored = all(map(sources.is_stored, paths)) and not sources.given_texts()
    if stored:
        model.note_unused()
    elif all(map(sources.is_stored, paths)):
        model.note_unused_pixels()
    clip = None if stored else model.clip()
    columns = gather(sources, clip)
    if paths:
        columns.report()
    if clip is None or not sources.given_texts():
        return columns, columns
    rows = gather_texts(sources.text_sets(), clip)
    rows.report()
    return rows, columns if paths else rows


def _rank(
    rows: "NamedVectors", columns: "NamedVectors", cosines: "Tensor", best: int
) -> list[Ranking]:
    """The nearest columns of each row; what is compared with itself is not near itself."""
    if rows is columns:
        cosines = cosines.clone().fill_diagonal_(float("-inf"))
        best = min(best, len(columns.names) - 1)
    return list(rank(rows.names, cosines, columns.names, best))


def _print_matrix(rows: "NamedVectors", columns: "NamedVectors", cosines: "Tensor") -> bool:
    few = len(columns.names) <= MOST_COLUMNS
    return few and print_matrix(rows.names, columns.names, cosines.tolist(), COSINES)


def _plot(path: Path, cosines: "Tensor", rows: "NamedVectors", columns: "NamedVectors") -> None:
    from ecliptic.plots import similarity_matrix
    from ecliptic.storage import replace_file, stream_writer

    drawn = similarity_matrix(cosines, rows.labels(), columns.labels())
    kind = PLOTS[path.suffix.lower()]
    replace_file(path, stream_writer(lambda file: drawn.save(file, kind)))
    say(f"matrix of {len(rows.names)} x {len(columns.names)} in {path}")
