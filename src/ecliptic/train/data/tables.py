"""Rows of a CSV, TSV, JSON lines or Parquet file that name an image and its captions.

Paths and captions are held in memory. Images inside a Parquet file are read when they are drawn,
together with their row group, since that format reads no single row.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ecliptic.engine import Columns, check_columns, is_table, read_rows, row_item
from ecliptic.errors import ConfigError, EclipticError, InputError, StorageError
from ecliptic.inputs import ImageSource
from ecliptic.storage import open_parquet
from ecliptic.train.data.captions import Captioner, clean
from ecliptic.train.data.examples import Example, hash_files
from ecliptic.train.data.text_lists import TextList, TextRows
from ecliptic.train.settings import TableConfig

MOST_COLUMNS = 100  # of rows of JSON, that a message may name


class TableExamples:
    """The rows of a table. A row that cannot be used is an example that cannot be read.

    Args:
        path: of the table; paths of images are relative to its folder.
        config: columns and separator.

    Raises:
        StorageError: the table cannot be read, has no such column, or no row.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """

    def __init__(self, path: Path, config: TableConfig) -> None:
        self.path, self.config = path, config
        self.captioner = Captioner(config.templates)
        self.errors: dict[int, str] = {}  # of rows, by index
        self._columns_seen: dict[str, None] = {}  # in order, until each that is named was in a row
        self.stored = _open_stored(path, config.image)
        images: list[str] = []
        negatives: list[tuple[str, ...]] = []
        self.texts = TextRows(self._read(images, negatives))
        self.images, self.negatives = TextList(images), TextRows(negatives)
        if not self.texts:
            raise StorageError(f"{path} has no rows; check data.sources.")
        if self._columns_seen:  # none if no row is an object of JSON
            check_columns(path, list(self._columns_seen), self._names())
        if len(self.errors) == len(self.texts):
            raise StorageError(f"no row of {path} can be used; the first: {self.errors[0]}")

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self, index: int, random: Random) -> Example:
        """The image of a row, and one of its captions."""
        caption = self.captioner.draw(self.captions(index), random)
        picture, negatives = self.picture(index), self.negatives[index]
        return Example(self._name(index), picture, caption, negatives)

    def picture(self, index: int) -> ImageSource:
        """The path of the image, or its bytes.

        Raises:
            InputError: the row names none.
        """
        self._check(index)
        if self.stored is None:
            return self.path.parent / self.images[index]
        item = row_item(
            {self.config.image: self.stored.read(index)},
            Columns(self.config.image),
            self.path.parent,
            self._name(index),
        )
        if item.error is not None:
            raise InputError(f"{self._name(index)}: {item.error}")
        return item.value if isinstance(item.value, bytes) else Path(item.value)

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of a row.

        Raises:
            InputError: it has none.
        """
        self._check(index)
        return self.texts[index]

    def fingerprint(self) -> str:
        """`hash_files` of the table and of all its images."""
        images = () if self.stored else (self.path.parent / name for name in self.images if name)
        return hash_files([self.path, *images], self.path.parent)

    def _read(
        self, images: list[str], negatives: list[tuple[str, ...]]
    ) -> Iterator[tuple[str, ...]]:
        """The captions of each row; what else it has goes into the two lists."""
        config, names = self.config, self._names()
        missing = set(names)
        for index, (_, row) in enumerate(read_rows(str(self.path), names)):
            if missing and not isinstance(row, str):
                self._note_columns(row, missing)
            image, captions, others = "", tuple[str, ...](), tuple[str, ...]()
            try:
                captions = self._captions_of(row)
                others = self._texts_in(row, config.negatives)
                image = "" if self.stored else self._image_of(row)
            except (EclipticError, UnicodeEncodeError) as error:
                self.errors[index] = _reason(error)
            images.append(image)
            negatives.append(others)
            yield captions

    def _names(self) -> list[str]:
        """The columns that are read, each once."""
        config = self.config
        stored = [] if self.stored else [config.image]
        return list(dict.fromkeys([*config.captions, *config.negatives, *stored]))

    def _note_columns(self, row: Mapping[str, Any], missing: set[str]) -> None:
        """Keep the columns of a row; it takes those that it has out of `missing`."""
        for name in row:
            if name in missing or len(self._columns_seen) < MOST_COLUMNS:
                self._columns_seen[name] = None
            missing.discard(name)

    def _captions_of(self, row: Mapping[str, Any] | str) -> tuple[str, ...]:
        if isinstance(row, str):
            raise InputError(row)
        if not any(name in row for name in self.config.captions):
            check_columns(self.path, list(row), self.config.captions)
        if not (found := self._texts_in(row, self.config.captions)):
            raise InputError(f"no caption in {self._columns()}.")
        return found

    def _texts_in(self, row: Any, names: Sequence[str]) -> tuple[str, ...]:
        """All texts in some columns of a row."""
        cells: list[str] = []
        for name in names:
            value = row.get(name)
            cells += [v for v in (value if isinstance(value, list) else [value]) if v is not None]
        if not all(isinstance(cell, str) for cell in cells):
            raise InputError(f"a caption in {', '.join(map(repr, names))} is not a text.")
        for cell in cells:
            cell.encode()  # a UnicodeEncodeError if it was not valid UTF-8
        if separator := self.config.separator:
            cells = [part for cell in cells for part in cell.split(separator)]
        return clean(cells)

    def _image_of(self, row: Mapping[str, Any] | str) -> str:
        item = row_item(row, Columns(self.config.image), Path(), "")
        if item.error is not None:
            raise item.error
        return str(item.value)

    def _columns(self) -> str:
        return ", ".join(map(repr, self.config.captions))

    def _name(self, index: int) -> str:
        return f"{self.path.name}, row {index + 1}"

    def _check(self, index: int) -> None:
        if index in self.errors:
            raise InputError(f"{self._name(index)}: {self.errors[index]}")


class StoredImages:
    """A column of a Parquet file with encoded images; the row group read last is kept.

    Args:
        path: of the file.
        column: bytes, or a struct of `bytes` and `path`, as Hugging Face's data sets have it.
        sizes: rows of each row group.
    """

    def __init__(self, path: Path, column: str, sizes: Sequence[int]) -> None:
        self.path, self.column = path, column
        self.ends = np.cumsum(sizes)
        self._file: Any = None  # of this process
        self._group: tuple[int, list[Any]] = (-1, [])

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_file": None, "_group": (-1, [])}

    def read(self, index: int) -> Any:
        """The cell of a row.

        Raises:
            StorageError: the file is damaged there.
        """
        group = int(np.searchsorted(self.ends, index, side="right"))
        if group != self._group[0]:
            if self._file is None:
                self._file = open_parquet(self.path, "tars")
            pyarrow, file = self._file
            try:
                column = file.read_row_group(group, columns=[self.column]).column(0)
                self._group = group, column.to_pylist()
            except pyarrow.ArrowException as error:
                raise StorageError(f"{self.path} cannot be read: {str(error)[:500]}") from None
        first = int(self.ends[group - 1]) if group else 0
        return self._group[1][index - first]


def open_table(config: TableConfig, root: Path) -> TableExamples:
    """Open the table of a source.

    Raises:
        ConfigError: it is no table, by its suffix, or no caption column is named.
        StorageError: it cannot be read.
    """
    path = root / config.path
    if not is_table(str(path)):
        raise ConfigError(f"{path} is no table; its suffix must be .csv, .tsv, .jsonl or .parquet.")
    if not config.captions:
        raise ConfigError(f"captions of {path} must name at least one column.")
    return TableExamples(path, config)


def _open_stored(path: Path, image: str) -> StoredImages | None:
    """The images inside a Parquet file; None for paths of images."""
    if path.suffix.lower() != ".parquet":
        return None
    pyarrow, file = open_parquet(path, "a .csv")
    check_columns(path, file.schema_arrow.names, [image])
    kind = file.schema_arrow.field(image).type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        return None
    groups = range(file.metadata.num_row_groups)
    return StoredImages(path, image, [file.metadata.row_group(i).num_rows for i in groups])


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "the caption is not valid UTF-8; save the table as UTF-8."
    return str(error)
