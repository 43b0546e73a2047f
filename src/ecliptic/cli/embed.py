"""`ecliptic embed`: images and texts to a file of vectors."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ecliptic.cli.exits import INTERRUPTED, REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, Out, Texts, TextsFile, expands
from ecliptic.cli.output import on_terminal, print_json, say
from ecliptic.errors import InputError, StorageError

if TYPE_CHECKING:
    from ecliptic.engine import Embedding, Item, Kind


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """What is embedded."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Images, folders of images (with all below them), tables (.csv, .tsv, "
            ".jsonl), or - for stdin, one a line.",
            show_default=False,
        ),
    ] = None
    text: Texts = None
    texts: TextsFile = None
    kind: Annotated[
        Literal["image", "text"], typer.Option(help="What tables and stdin hold: paths or texts.")
    ] = "image"
    column: Annotated[
        str | None, typer.Option(help="Column of the table with the paths or texts.")
    ] = None
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column with the ids.", show_default="the same")
    ] = None

    def check(self) -> None:
        """Raise a usage error unless something is named, and the column of tables."""
        from ecliptic.engine import is_table

        if not (self.inputs or self.text or self.texts):
            raise typer.BadParameter("name images, folders or tables, or give --text.")
        if any(map(is_table, self.inputs or ())) and not self.column:
            raise typer.BadParameter("a table needs --column, the name of the column to embed.")

    def sets(self) -> "Iterator[tuple[Kind, Iterator[Item]]]":
        """What the paths name, then the texts; each set with its kind."""
        from ecliptic.engine import STDIN, Columns, is_table, line_items, read_items, text_item

        columns = Columns(self.column or "", self.id_column, self.kind)
        for path in self.inputs or ():
            lined = path == STDIN or is_table(path)
            yield self.kind if lined else "image", read_items(path, columns)
        if self.text:
            yield "text", map(text_item, self.text)
        if self.texts:
            yield "text", line_items(str(self.texts), "text")


@expands
def embed(
    *,
    inputs: InputOptions,
    out: Out = Path("vectors.npy"),
    batch_size: Annotated[int | None, typer.Option(min=1, help="Items at a time.")] = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Write a unit-length vector per image or text to a file.

    The file ends in .npy, .safetensors or .parquet, and holds the ids too.

    What cannot be used is listed on stderr and in FILE.rejects.jsonl, and the exit code is 3.
    Ctrl-C keeps what is done so far.
    """
    inputs.check()
    _check_out(out, force=force)
    from ecliptic.engine import embed_items, progress_bar, save_vectors

    clip = model.clip()
    with progress_bar("items", None, show=on_terminal()) as advance:
        done = embed_items(clip, inputs.sets(), batch_size, advance, _warn)
    with done:
        done.rejects.write(Path(f"{out}.rejects.jsonl"))
        _report(done)
        save_vectors(out, done.vectors(), clip.card, done.names)
    say(f"{len(done.names)} vectors of {done.embed} values in {out}")
    if json:
        print_json(_summary(done, out) | {"space": clip.card.space})
    leave(INTERRUPTED, when=done.interrupted)
    leave(REJECTED, when=len(done.rejects) > 0)


def _check_out(out: Path, *, force: bool) -> None:
    """Say now, not after the work, that the vectors could not be written."""
    from ecliptic.engine import check_vectors_path

    check_vectors_path(out)
    if out.exists() and not force:
        raise StorageError(f"{out} exists; pass --force to replace it, or another --out.")


def _warn(message: str) -> None:
    say(f"warning: {message}")


def _report(done: "Embedding") -> None:
    for line in done.rejects.lines():
        say(line)
    if done.interrupted:
        say(f"interrupted after {done.seen} items; keeping what is done")
        leave(INTERRUPTED, when=not done.names)
    if not done.names:
        raise InputError(f"none of the {done.seen} items could be embedded; nothing is written.")


def _summary(done: "Embedding", out: Path) -> dict[str, object]:
    return {
        "out": str(out),
        "vectors": len(done.names),
        "embed": done.embed,
        "rejected": done.rejects.to_json(),
        "interrupted": done.interrupted,
    }
