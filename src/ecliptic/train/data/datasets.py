"""A data set that Hugging Face `datasets` saved to a folder, read with that package."""

from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from ecliptic.engine import check_columns
from ecliptic.errors import ConfigError, InputError, MissingExtraError, StorageError
from ecliptic.inputs import ImageSource
from ecliptic.train.data.captions import Captioner, clean
from ecliptic.train.data.examples import Example, hash_files
from ecliptic.train.settings import DatasetConfig


class DatasetExamples:
    """The rows of a data set; its images stay encoded until they are drawn.

    Args:
        folder: that `save_to_disk` wrote.
        rows: the data set, whose images are not decoded.
        config: columns.
    """

    def __init__(self, folder: Path, rows: Any, config: DatasetConfig) -> None:
        self.folder, self.rows, self.config = folder, rows, config
        self.texts = rows.select_columns(list(config.captions))
        self.images = rows.select_columns([config.image])
        self.captioner = Captioner(config.templates)

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, index: int, random: Random) -> Example:
        """The image of a row, and one of its captions."""
        caption = self.captioner.draw(self.captions(index), random)
        return Example(self._name(index), self.picture(index), caption)

    def picture(self, index: int) -> ImageSource:
        """The bytes or the path of the image.

        Raises:
            InputError: the row has neither.
        """
        value = self.images[index][self.config.image]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and value:
            return Path(value)
        if isinstance(value, bytes) and value:
            return value
        raise InputError(f"{self._name(index)}: no image in column {self.config.image!r}.")

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of a row.

        Raises:
            InputError: it has none, or what is there is no text.
        """
        row = self.texts[index]
        cells: list[Any] = []
        for name in self.config.captions:
            cells += row[name] if isinstance(row[name], list) else [row[name]]
        cells = [cell for cell in cells if cell is not None]
        if not all(isinstance(cell, str) for cell in cells) or not (found := clean(cells)):
            columns = ", ".join(map(repr, self.config.captions))
            raise InputError(f"{self._name(index)}: no caption in {columns}.")
        return found

    def fingerprint(self) -> str:
        """`hash_files` of the files in the folder."""
        return hash_files(
            sorted(path for path in self.folder.rglob("*") if path.is_file()), self.folder
        )

    def _name(self, index: int) -> str:
        return f"{self.folder.name}, row {index + 1}"


def open_dataset(config: DatasetConfig, root: Path) -> DatasetExamples:
    """Open the data set of a source.

    Raises:
        ConfigError: no caption column is named.
        MissingExtraError: `datasets` is not installed.
        StorageError: there is no such folder, it holds several splits, or it lacks a column.
    """
    folder = root / config.path
    if not config.captions:
        raise ConfigError(f"captions of {folder} must name at least one column.")
    if not folder.is_dir():
        raise StorageError(f"there is no folder {folder}; check data.sources and data.root.")
    try:
        datasets: Any = import_module("datasets")
    except ImportError:
        raise MissingExtraError(
            'a source of kind "dataset" needs datasets; `pip install datasets`, or write tars or '
            "a table."
        ) from None
    try:
        found: Any = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise StorageError(f"{folder} is no data set of `save_to_disk`: {error}") from None
    if isinstance(found, dict):
        raise StorageError(
            f"{folder} holds several splits; name one of them: "
            f"{', '.join(str(config.path / name) for name in found)}."
        )
    check_columns(folder, found.column_names, [config.image, *config.captions])
    return DatasetExamples(folder, _keep_encoded(datasets, found, config), config)


def _keep_encoded(datasets: Any, rows: Any, config: DatasetConfig) -> Any:
    """The rows, whose images come as bytes or paths."""
    if not len(rows):
        raise StorageError(f"{config.path} has no rows; check data.sources.")
    if isinstance(rows.features[config.image], datasets.Image):
        return rows.cast_column(config.image, datasets.Image(decode=False))
    return rows
