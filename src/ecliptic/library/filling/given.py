"""What `Library.add` is given: its items, and where pictures may be gone."""

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ecliptic.engine import (
    STDIN,
    Columns,
    Item,
    image_item,
    is_table,
    is_tar,
    read_items,
    tar_has_end,
)
from ecliptic.errors import EclipticError, InputError, warn
from ecliptic.index import Compare, Filter, Or, Store
from ecliptic.library.filling.places import is_there, name_file

PictureSources = str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Item]


class GivenSources:
    """The sources of one call of `add`.

    A source that cannot be read does not keep the others from being read.
    """

    def __init__(self, given: PictureSources, columns: Columns | None, store: Store) -> None:
        self._given = [given] if isinstance(given, str | os.PathLike) else given
        if not isinstance(self._given, Iterable):
            _check(given)  # raises
        self._columns, self._store = columns, store
        self.places: list[str] = []  # files and folders, below which pictures may be gone
        # Tars and tables that were read to their end, and whose pictures have ids of their names.
        self.archives: list[str] = []
        self._failures: list[EclipticError] = []

    def items(self) -> Iterator[Item]:
        """All items."""
        for one in self._given:
            if isinstance(one, Item):
                yield one
                continue
            path = _check(one)
            if path != STDIN and not is_there(path) and has_pictures(self._store, path):
                self.places.append(path)
                continue
            if folder := watched_folder(one):
                self.places.append(folder)
            try:
                yield from self._read(one)
            except EclipticError as error:
                if not (folder and has_pictures(self._store, folder)):
                    self._failures.append(error)
                    continue
            if self._is_whole(path):
                self.archives.append(path)

    def _is_whole(self, path: str) -> bool:
        """Whether all was seen of a tar or table whose pictures have ids of their names in it."""
        if is_tar(path):
            return tar_has_end(path)
        return is_table(path) and not (self._columns and self._columns.id)

    def raise_failure(self) -> None:
        """Raise what the first source raised that could not be read.

        Warns:
            UserWarning: for each of the others.
        """
        for error in self._failures[1:]:
            warn(str(error), stacklevel=3)
        if self._failures:
            raise self._failures[0]

    def _read(self, given: str | os.PathLike[str]) -> Iterator[Item]:
        path = os.fspath(given)
        if isinstance(given, os.PathLike) and not (
            os.path.isdir(path) or is_table(path) or is_tar(path)  # noqa: PTH112 of any name
        ):
            yield image_item(path)  # never a pattern, nor standard input
            return
        columns = self._columns or Columns()
        for item in read_items(path, columns):
            if columns.id and is_table(path) and isinstance(item.value, str) and item.value:
                raise InputError(
                    f"{path} holds paths, and a library names files by their paths; leave out the "
                    "column of ids, or keep it as a column of the library."
                )
            yield item


def _check(given: Any) -> str:
    """The path of a source.

    Raises:
        InputError: it is no path, or none of any file.
    """
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(path, str):
        raise InputError(f"{given!r} is no path; pass files, folders, globs or tables.")
    if not path or "\0" in path:
        raise InputError(f"{path!r} names no file or folder; is a variable empty?")
    return path


def may_lose(given: str) -> bool:
    """Whether pictures of this source may be gone: it is a folder, a glob, a tar, a table, or gone.

    A file that is there is not.
    """
    gone = given != STDIN and not is_there(given)
    return gone or is_table(given) or is_tar(given) or bool(watched_folder(given))


def has_pictures(store: Store, place: str) -> bool:
    """Whether a store has pictures of a file, of a folder, or of a tar or table."""
    blocks = store.read(where=below(place), columns=[])
    return any(block.ids for block in blocks)


def below(place: str) -> Filter:
    """The rows of a file, and of what is below a folder or in a tar or table."""
    name = name_file(place)
    inside = name.rstrip(os.sep) + os.sep
    return Or(
        (
            Compare("path", "=", name),
            Compare("path", "starts with", inside),
            within(name),
        )
    )


def within(archive: str) -> Filter:
    """The rows of what is in a tar or a table; `name_picture` gives their ids."""
    return Or(
        (
            Compare("id", "starts with", f"{archive}{os.sep}"),
            Compare("id", "starts with", f"{archive}, row "),
        )
    )


def watched_folder(given: str | os.PathLike[str]) -> str:
    """The folder whose files are looked for when they are gone; "" for single files and tables."""
    path = os.fspath(given)
    if os.path.isdir(path):  # noqa: PTH112 Path.is_dir fails on long names
        return path
    if not isinstance(given, str) or is_there(path) or not glob.has_magic(path):
        return ""
    parts = Path(path).parts
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    return str(Path(*plain)) if plain else "."
