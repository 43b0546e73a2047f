"""`ecliptic library export` and `import`: vectors for other tools, and of other tools."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecliptic.cli.exits import REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, check_written, expands
from ecliptic.cli.library_flags import USUAL, LibraryArgument, Where, open_library
from ecliptic.cli.output import MOST_REJECTS, count, print_json, say

if TYPE_CHECKING:
    from ecliptic.index import VectorSource


@expands
def export(
    *,
    library: LibraryArgument = USUAL,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .parquet, .npy, .index (FAISS) or .usearch.",
            metavar="FILE",
        ),
    ],
    where: Where = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the ids, vectors and columns of a library for other tools.

    Only Parquet holds all in one file; beside the others FILE.parquet has the ids and columns.
    """
    from ecliptic.index import vector_outputs

    check_written(vector_outputs(out), [], force=force, flags="--out")
    opened = open_library(library)
    written = opened.export(out, where, overwrite=force)
    if json:
        print_json({"rows": written.rows, "files": [str(path) for path in written.files]})
    say(f"{count(written.rows, 'vector')} in {', '.join(str(path) for path in written.files)}")


@dataclasses.dataclass(frozen=True)
class SourceFlags:
    """How to read vectors of another tool."""

    names: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file or JSON list with the ids, for .npy and FAISS.",
            metavar="FILE",
            show_default="SOURCE.parquet, if it exists",
        ),
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option("--id", help="Column with the ids.", show_default="id or image_path"),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(help="Columns to keep, separated by commas.", show_default="all"),
    ] = None

    def open(self, path: Path) -> "VectorSource":
        """The vectors in the files."""
        from ecliptic.index import open_vectors

        kept = [name.strip() for name in self.columns.split(",")] if self.columns else None
        return open_vectors(path, names=self.names, ids=self.id_column, columns=kept)


@expands
def import_(
    *,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="The output folder of clip-retrieval; a FAISS index, a .npy or .parquet file; or "
            "vectors of `ecliptic embed`.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the new library.", metavar="LIBRARY")
    ],
    reading: SourceFlags,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Make a library of vectors that were computed before.

    Most files do not tell which model made their vectors, so --model is believed: if it is another
    model than the one that made them, the answers mean nothing.
    """
    from ecliptic.library import Library

    found = reading.open(source)
    for note in found.notes:
        say(f"note: {note}")
    library, refused = Library.from_vectors(out, found, model.clip(), source=model.model)
    for row in refused[:MOST_REJECTS]:
        say(f"rejected row {row.row}, {row.id}: {row.reason}")
    if (more := len(refused) - MOST_REJECTS) > 0:
        say(f"and {more:,} more")
    if "space" not in found.facts:
        say(f"note: the files do not tell their model; they are taken for {library.about.name}")
    say(f"{count(len(library), 'vector')} in {out}")
    if json:
        told: dict[str, Any] = {"library": str(out), "pictures": len(library)}
        print_json(told | {"refused": [{"row": one.row, "reason": one.reason} for one in refused]})
    leave(REJECTED, when=bool(refused))
