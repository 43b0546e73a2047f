"""Flags that name images, texts and stored vectors, for all commands that read many of them."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from ecliptic.cli.flags import TextsFileFlag, TextsFlag

if TYPE_CHECKING:
    from ecliptic.engine import Columns, Item, Kind

    Set = tuple[Kind, Iterator[Item]]

STORED = (".npy", ".safetensors", ".parquet")  # suffixes of files of vectors
_PATHS = (
    "Images, folders (subfolders too), globs, .tar files, tables (.csv, .tsv, .jsonl, .parquet), "
    "or - for stdin with one item per line."
)
Paths = Annotated[list[str] | None, typer.Argument(metavar="PATH", help=_PATHS, show_default=False)]
PathsOrVectors = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help=f"{_PATHS[:-1]}; or vectors written by `ecliptic embed`. A .parquet file is a table "
        "if --column is given, else vectors.",
        show_default=False,
    ),
]


@dataclasses.dataclass(frozen=True)
class ImageSources:
    """Images and stored vectors."""

    inputs: PathsOrVectors = None
    column: Annotated[
        str | None, typer.Option(help="Column of a table with its paths or texts.")
    ] = None
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column with the ids.", show_default="--column")
    ] = None

    takes_vectors: ClassVar[bool] = True

    def check(self, vanished: Collection[str] = (), *, other_table: bool = False) -> None:
        """Raise before the work if there is no input, a named path is missing or --column is.

        Args:
            vanished: named paths that need not be there.
            other_table: another flag names a table, of which --column may be.
        """
        from ecliptic.cli.texts import refuse_missing_files, refuse_missing_paths

        if not (self.inputs or self.given_texts()):
            raise typer.BadParameter(f"name images, folders or tables{self._or_texts()}.")
        refuse_missing_files(path for path in self.inputs or () if self.is_stored(path))
        if not other_table:
            self.check_columns()
        others = [path for path in self.inputs or () if not self.is_stored(path)]
        check_tables(others, self.column, vanished)
        refuse_missing_paths(path for path in others if path not in vanished)

    def check_columns(self) -> None:
        """Raise a usage error for columns of a table without a table."""
        from ecliptic.engine import is_table

        if any(is_table(path) and not self.is_stored(path) for path in self.inputs or ()):
            return
        for flag, value in (("--column", self.column), ("--id", self.id_column)):
            if value is not None:
                raise typer.BadParameter(f"{flag} has no effect without a table; leave it out.")

    def is_stored(self, path: str) -> bool:
        """Whether `path` has the suffix of a file of vectors, and is read as one."""
        table = path.endswith(".parquet") and self.column is not None
        return self.takes_vectors and path.endswith(STORED) and not table

    def files(self) -> "Iterator[str | Path]":
        """Every path that is read, with the images in folders, globs and tables of text.

        A Parquet file may hold the images themselves, so it is not read twice for their paths.
        """
        from ecliptic.engine import STDIN
        from ecliptic.errors import EclipticError

        for path in self.inputs or ():
            yield path
            if path != STDIN and not self.is_stored(path):
                with suppress(EclipticError):  # reading it again says what is wrong
                    found = (item.value for item in self._look_into(path))
                    yield from (value for value in found if isinstance(value, str))

    def _look_into(self, path: str) -> "Iterator[Item]":
        """The images of a folder, a glob, or a table of text."""
        from ecliptic.engine import image_files, is_table, read_items

        if not is_table(path):
            return image_files(path, warns=False)
        texts = self._kind_of_lines() == "text" or path.lower().endswith(".parquet")
        return iter(()) if texts else read_items(path, self.columns())

    def sets(self, paths: Iterable[str]) -> "Iterator[Set]":
        """The items of `paths` in order; neighbours of one kind are one set, encoded together."""
        from ecliptic.engine import read_items

        for kind, some in groupby(paths, self._kind):
            yield kind, chain.from_iterable(read_items(path, self.columns()) for path in some)

    def count(self, paths: Iterable[str]) -> int | None:
        """The number of items of `paths`, for a progress bar; None if it takes long to know."""
        from ecliptic.engine import count_items

        counts = [count_items(path, self.columns()) for path in paths]
        return None if None in counts else sum(filter(None, counts))

    def given_texts(self) -> bool:
        """Whether texts are given beside the paths."""
        return False

    def columns(self) -> "Columns":
        """The columns of tables that are read."""
        from ecliptic.engine import Columns

        return Columns(self.column or "", self.id_column, self._kind_of_lines())

    def _kind_of_lines(self) -> "Kind":
        return "image"

    def _kind(self, path: str) -> "Kind":
        from ecliptic.engine import STDIN, is_table

        return self._kind_of_lines() if path == STDIN or is_table(path) else "image"

    def _or_texts(self) -> str:
        return ", or vectors of `ecliptic embed`" * self.takes_vectors


@dataclasses.dataclass(frozen=True)
class ItemSources(ImageSources):
    """Images, stored vectors and texts."""

    text: TextsFlag = None
    texts: TextsFileFlag = None
    kind: Annotated[
        Literal["image", "text"], typer.Option(help="Whether tables and stdin hold paths or texts.")
    ] = "image"

    def files(self) -> "Iterator[str | Path]":
        """Every path that is read, with the images in folders."""
        yield from super().files()
        yield from filter(None, (self.texts,))

    def given_texts(self) -> bool:
        """Whether texts are given beside the paths."""
        return bool(self.text or self.texts)

    def check(self, vanished: Collection[str] = (), *, other_table: bool = False) -> None:
        """Raise before the work as for images, and if a text is the name of a file of texts."""
        from ecliptic.cli.texts import TEXT_SUFFIXES, is_file

        super().check(vanished, other_table=other_table)
        for text in self.text or ():
            if text.lower().endswith(TEXT_SUFFIXES) and is_file(text):
                raise typer.BadParameter(
                    f"--text {text} is a file; read its lines with --texts {text}."
                )

    def text_sets(self) -> "Iterator[Set]":
        """The texts that are given beside the paths."""
        from ecliptic.engine import line_items, text_item

        if self.text:
            yield "text", map(text_item, self.text)
        if self.texts:
            yield "text", line_items(str(self.texts), "text")

    def count_all(self) -> int | None:
        """The number of all items, texts too; None if it takes long to know."""
        from ecliptic.engine import count_lines

        paths = self.count(self.inputs or ())
        lines = count_lines(self.texts) if self.texts else 0
        return None if paths is None or lines is None else paths + lines + len(self.text or ())

    def _kind_of_lines(self) -> "Kind":
        return self.kind

    def _or_texts(self) -> str:
        return f"{super()._or_texts()}, or give --text"


@dataclasses.dataclass(frozen=True)
class EmbedSources(ItemSources):
    """Images and texts that have no vectors yet."""

    inputs: Paths = None

    takes_vectors: ClassVar[bool] = False


def check_tables(paths: Iterable[str], column: str | None, vanished: Collection[str] = ()) -> None:
    """Raise if a table among `paths` is missing, or `column` is.

    `vanished` need not be there.
    """
    from ecliptic.cli.texts import refuse_missing_files
    from ecliptic.engine import is_table

    tables = [path for path in paths if is_table(path)]
    refuse_missing_files(path for path in tables if path not in vanished)
    if tables and not column:
        raise typer.BadParameter(
            f"the table {tables[0]} needs --column, the name of the column to read."
        )
