"""Images in files, folders and globs, in the order of their names."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ecliptic.engine.sources.items import Item, image_item, readable
from ecliptic.errors import InputError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
)  # that are looked for in folders


def image_files(path: str) -> Iterator[Item]:
    """The image `path`, all images below the folder `path`, or the files of a glob.

    A glob has "*", "?" or "[...]" in it and "**" for any folders; a file of that very name is
    the file.

    Raises:
        InputError: a folder without images, or a glob that nothing matches.
    """
    if Path(path).is_dir():
        return _in_folder(path)
    if not os.path.lexists(path) and glob.has_magic(path):
        return _matching(path)
    return iter([image_item(path)])


def _in_folder(path: str) -> Iterator[Item]:
    empty = True
    for folder, below, files in os.walk(path):
        below.sort()  # os.walk goes on in this order
        for file in sorted(files):
            if Path(file).suffix.lower() in IMAGE_SUFFIXES:
                empty = False
                yield image_item(os.path.join(folder, file))  # noqa: PTH118 keeps "./" as given
    if empty:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"no images in {readable(path)}; known are {known}.")


def _matching(pattern: str) -> Iterator[Item]:
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 keeps the pattern's own spelling
    files = sorted(name for name in found if Path(name).is_file())
    if not files:
        raise InputError(f"no file matches {readable(pattern)}; check the pattern.")
    yield from map(image_item, files)
