"""`ecliptic similarity`: cosines of texts, images and stored vectors."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, Texts, TextsFile, expands
from ecliptic.cli.output import print_json, print_table, say
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.cli.comparing import Compared

WIDEST = 10  # columns of a table; with more, each row shows only the BEST
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


@expands
def similarity(
    *,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Images, folders of images, or vectors written by `ecliptic embed`.",
            show_default=False,
        ),
    ] = None,
    text: Texts = None,
    texts: TextsFile = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the matrix as an image.")
    ] = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Show the cosines of texts, images and stored vectors.

    The texts are the rows; the images and vectors of PATH... are the columns. If only one of the
    two is given, it is compared with itself.
    """
    from ecliptic.cli.texts import texts_of

    if plot:
        _check_plot(plot, [*(paths or ()), *filter(None, (texts,)), model.model], force=force)
    rows, columns = _encode(paths or [], texts_of(text, texts), model)
    for line in columns.rejects.lines(shown=len(columns.rejects)):
        say(line)
    if not columns.names:
        raise InputError("none of the images could be used.")
    from ecliptic.scoring import cosine

    cosines = cosine(rows.matrix(), columns.matrix())  # (R, C)
    if json:
        print_json({"rows": rows.names, "columns": columns.names, "cosines": cosines.tolist()})
    else:
        _print(rows.names, columns.names, cosines)
    if plot:
        _plot(plot, cosines, rows, columns)
    leave(REJECTED, when=len(columns.rejects) > 0)


def _check_plot(path: Path, read: list[str | Path], *, force: bool) -> None:
    """Raise before the work if the image cannot be written, or if it is one of those to `read`."""
    from ecliptic.storage import check_outputs

    if path.suffix.lower() not in PLOTS:
        raise typer.BadParameter(f"--plot {path} must end in one of {', '.join(PLOTS)}.")
    check_outputs([path], _files_in(read), force=force)


def _files_in(paths: Iterable[str | Path]) -> Iterator[str | Path]:
    """The paths, and the images in those that are folders."""
    from ecliptic.engine import image_files

    for path in paths:
        yield path
        if Path(path).is_dir():
            with suppress(InputError):  # a folder without images
                yield from (str(item.value) for item in image_files(str(path)))


def _encode(paths: list[str], texts: list[str], model: ModelFlags) -> "tuple[Compared, Compared]":
    """Encode the texts (rows) and the paths (columns); if one is missing, the other is both."""
    if not paths and not texts:
        raise typer.BadParameter("name images or stored vectors, or give --text.")
    from ecliptic.cli.comparing import Compared, compare_paths, is_stored

    clip = None if not texts and all(map(is_stored, paths)) else model.clip()
    columns = compare_paths(paths, clip)
    if not texts or clip is None:
        return columns, columns
    rows = Compared()
    rows.add(texts, clip.encode_text(texts))
    return rows, columns if paths else rows


def _print(rows: list[str], columns: list[str], cosines: "Tensor") -> None:
    if len(columns) <= WIDEST:
        cells = [[f"{value:.3f}" for value in row] for row in cosines.tolist()]
        titles = ("", *(f"{column} " for column in columns))
        print_table(titles, [(row, *cell) for row, cell in zip(rows, cells, strict=True)])
        return
    found = cosines.topk(BEST)
    best = [
        (row, rank + 1, columns[place], f"{value:.3f}")
        for row, places, values in zip(
            rows, found.indices.tolist(), found.values.tolist(), strict=True
        )
        for rank, (place, value) in enumerate(zip(places, values, strict=True))
    ]
    print_table(("", "rank ", "nearest", "cosine "), best)


def _plot(path: Path, cosines: "Tensor", rows: "Compared", columns: "Compared") -> None:
    from ecliptic.cli.comparing import labels_of
    from ecliptic.plots import similarity_matrix
    from ecliptic.storage import replace_file, stream_writer

    drawn = similarity_matrix(cosines, labels_of(rows), labels_of(columns))
    kind = PLOTS[path.suffix.lower()]
    replace_file(path, stream_writer(lambda file: drawn.save(file, kind)))
    say(f"matrix of {len(rows.names)} x {len(columns.names)} in {path}")
