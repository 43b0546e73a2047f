"""`ecliptic embed`: write the vectors of images and texts to a file."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ecliptic.cli.exits import INTERRUPTED, REJECTED, leave
from ecliptic.cli.flags import Force, Json, ModelFlags, Out, Texts, TextsFile, expands
from ecliptic.cli.output import on_terminal, print_json, rejects_of, say
from ecliptic.errors import InputError

if TYPE_CHECKING:
    from ecliptic.engine import Embedding, Item, Kind


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """The images and texts to embed."""

    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Images, folders of images (subfolders too), globs, tables (.csv, "
            ".tsv, .jsonl, .parquet), or - "
            "for stdin with one item per line.",
            show_default=False,
        ),
    ] = None
    text: Texts = None
    texts: TextsFile = None
    kind: Annotated[
        Literal["image", "text"], typer.Option(help="Whether tables and stdin hold paths or texts.")
    ] = "image"
    column: Annotated[
        str | None, typer.Option(help="Column of a table with the paths or texts.")
    ] = None
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column with the ids.", show_default="--column")
    ] = None

    def check(self) -> None:
        """Raise a usage error if there is no input, or a table without --column."""
        from ecliptic.engine import is_table

        if not (self.inputs or self.text or self.texts):
            raise typer.BadParameter("name images, folders or tables, or give --text.")
        if any(map(is_table, self.inputs or ())) and not self.column:
            raise typer.BadParameter("a table needs --column, the name of the column to embed.")

    def sets(self) -> "Iterator[tuple[Kind, Iterator[Item]]]":
        """The items of each path, then the texts; each set with its kind."""
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
    batch_size: Annotated[int | None, typer.Option(min=1, help="Items per batch.")] = None,
    force: Force = False,
    model: ModelFlags,
    json: Json = False,
) -> None:
    """Write a unit-length vector per image or text to a file.

    The name of the file ends in .npy, .safetensors or .parquet. It holds the ids too.

    If items cannot be used, they are listed on stderr and in FILE.rejects.jsonl, and the exit code
    is 3. None of these files is replaced without --force. Ctrl-C stops early and writes the vectors
    so far.
    """
    inputs.check()
    from ecliptic.engine import check_vectors_path, embed_items, progress_bar, save_vectors
    from ecliptic.storage import check_outputs

    rejects = rejects_of(out)
    read = (*(inputs.inputs or ()), *filter(None, (inputs.texts,)), model.model)
    outputs = (*check_vectors_path(out), rejects)
    check_outputs(outputs, read, force=force, make_folders=True)
    clip = model.clip()
    with progress_bar("items", None, show=on_terminal()) as advance:
        done = embed_items(
            clip, inputs.sets(), batch_size, advance, lambda text: say(f"warning: {text}")
        )
    with done:
        done.rejects.write(rejects)
        _report(done)
        save_vectors(out, done.vectors(), clip.card, done.names, overwrite=force)
    say(f"{len(done.names)} vectors of {done.embed} values in {out}")
    if json:
        print_json(
            {
                "out": str(out),
                "vectors": len(done.names),
                "embed": done.embed,
                "rejected": done.rejects.to_json(),
                "interrupted": done.interrupted,
                "space": clip.card.space,
            }
        )
    leave(INTERRUPTED, when=done.interrupted)
    leave(REJECTED, when=len(done.rejects) > 0)


def _report(done: "Embedding") -> None:
    for line in done.rejects.lines():
        say(line)
    if done.interrupted:
        say(f"interrupted after {done.seen} items; the finished ones are kept")
        leave(INTERRUPTED, when=not done.names)
    if not done.names:
        raise InputError(f"none of the {done.seen} items could be embedded; nothing is written.")
