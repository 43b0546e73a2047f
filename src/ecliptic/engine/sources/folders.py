"""Images in files, folders and globs, in the order of their names."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ecliptic.engine.sources.items import Item, escape_surrogates, image_item
from ecliptic.errors import InputError, printable

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
)  # of the files that are read from folders


def image_files(path: str) -> Iterator[Item]:
    """The image `path`, all images below the folder `path`, or the files of a glob.

    A glob has "*", "?" or "[...]", and "**" for any folders; if a file has that name, it is the
    file.

    A glob that matches no file is one item that cannot be used, as a missing file is.

    Raises:
        InputError: a folder without images.
    """
    if os.path.isdir(path):  # noqa: PTH112 Path.is_dir fails on long names
        return _walk(path)
    if not os.path.lexists(path) and glob.has_magic(path):
        return _match(path)
    return iter([image_item(path)])


def _walk(path: str) -> Iterator[Item]:
    empty = True
    for folder, below, files in os.walk(path):
        below.sort()  # os.walk goes on in this order
        for file in sorted(files):
            if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                empty = False
                yield image_item(os.path.join(folder, file))  # noqa: PTH118 keeps "./" as given
    if empty:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"no images in {printable(path)}; known suffixes are {known}.")


def _match(pattern: str) -> Iterator[Item]:
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 keeps the pattern's own spelling
    files = sorted(name for name in found if Path(name).is_file())
    yield from map(image_item, files)
    if not files:
        problem = InputError(f"no file has this name or matches it: {printable(pattern)}.")
        yield Item(escape_surrogates(pattern), "", problem)
