"""Images in files, folders and globs, in the order of their names.

In a folder, the suffix tells an image, or the first bytes of a file with another suffix. What is
none of these is counted and named in one warning.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ecliptic.engine.sources.items import Item, escape_surrogates, image_item
from ecliptic.errors import EclipticError, ImageError, InputError, printable, warn
from ecliptic.storage import sniff_image

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
)  # of the files that are read from folders without a look into them
_NAMED = 5  # files that a warning names


class LeftOutWarning(UserWarning):
    """Files of a folder that are not images were left out; the message counts them."""


def image_files(path: str, *, warns: bool = True) -> Iterator[Item]:
    """The image `path`, all images below the folder `path`, or the files of a glob.

    A glob has "*", "?" or "[...]", and "**" for any folders; if a file has that name, it is the
    file.

    `warns` is False for a look at a folder that is read again.
    A glob that matches no file is one item that cannot be used, as a missing file is.

    Raises:
        InputError: a folder without images.

    Warns:
        LeftOutWarning: files of the folder are not images.
    """
    if os.path.isdir(path):  # noqa: PTH112 Path.is_dir fails on long names
        return _walk(path, warns=warns)
    if not os.path.lexists(path) and glob.has_magic(path):
        return _match(path)
    return iter([image_item(path)])


def _walk(path: str, *, warns: bool) -> Iterator[Item]:
    images, others, named = 0, 0, list[str]()
    for folder, below, files in os.walk(path):
        if folder != path and _is_library(below, files):
            below.clear()
            continue
        below.sort()  # os.walk goes on in this order
        for file in sorted(files):
            place = os.path.join(folder, file)  # noqa: PTH118 keeps "./" as given
            if (item := _look_at(place)) is not None:
                images += 1
                yield item
                continue
            others += 1
            if len(named) < _NAMED:
                named.append(os.path.relpath(place, path))
    more = f" and {others - len(named)} more" if others > len(named) else ""
    kind = "a file that is no image" if others == 1 else f"{others} files that are no images"
    which = f"{kind} of a known format: {', '.join(named)}{more}"
    if not images:
        has = f"it has {which}." if others else "it has no files."
        raise InputError(f"no images in {printable(path)}; {has}")
    if others and warns:
        warn(f"{printable(path)}: left out {which}", LeftOutWarning, stacklevel=2)


def _is_library(folders: list[str], files: list[str]) -> bool:
    """Whether a folder is a library of `ecliptic index`, which stands among its pictures."""
    return "library.json" in files and any(name.startswith("items-") for name in folders)


def _look_at(path: str) -> Item | None:
    """The image `path`; None if it is none, by its suffix and its first bytes."""
    item = image_item(path)
    if Path(path).suffix.lower() in IMAGE_SUFFIXES:
        return item
    try:
        found = sniff_image(path)
    except PermissionError:  # decoding it says so
        return item
    except (OSError, EclipticError):  # a link to nothing, a pipe
        return None
    if found == "TIFF":  # decoders of TIFF find a small preview in them
        problem = ImageError(
            "a raw file of a camera, or another kind of TIFF; convert it to JPEG, PNG or .tif."
        )
        return Item(item.name, path, problem)
    return item if found else None


def _match(pattern: str) -> Iterator[Item]:
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 keeps the pattern's own spelling
    files = sorted(name for name in found if Path(name).is_file())
    yield from map(image_item, files)
    if not files:
        problem = InputError(f"no file has this name or matches it: {printable(pattern)}.")
        yield Item(escape_surrogates(pattern), "", problem)
