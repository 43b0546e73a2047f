"""Images in a tar, in its order; nothing is unpacked to the disk.

The suffix of a member tells an image, as in webdataset's tars, where captions stand beside them.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ecliptic.engine.sources.folders import IMAGE_SUFFIXES, LeftOutWarning
from ecliptic.engine.sources.items import Item, escape_surrogates
from ecliptic.errors import ImageError, InputError, printable, warn
from ecliptic.inputs import DEFAULT_LIMITS
from ecliptic.storage import Member, TarFile

SUFFIX = ".tar"
_END = 1024  # bytes of the two empty blocks


def is_tar(path: str) -> bool:
    """Whether the suffix is that of a tar, and `path` is no folder of such a name."""
    return path.lower().endswith(SUFFIX) and not os.path.isdir(path)  # noqa: PTH112 long names


def tar_items(path: str) -> Iterator[Item]:
    """The images in a tar, named `PATH/MEMBER`.

    Raises:
        StorageError: it is damaged, compressed, or holds links or names that leave a folder.
        InputError: it has no images.

    Warns:
        LeftOutWarning: members that are no images.
    """
    tar = TarFile(Path(path))
    images = others = 0
    try:
        for member in tar.members():
            if _is_image(member):
                images += 1
                yield _read(tar, member, path)
            else:
                others += 1
    finally:
        tar.close()
    if not images:
        raise InputError(f"no images in {printable(path)}; it has {others} other files.")
    if others:
        warn(f"{printable(path)}: left out {others} members that are no images", LeftOutWarning)


def tar_has_end(path: str) -> bool:
    """Whether a tar ends as its writer meant it to, with two empty blocks.

    One that was cut between two members reads like a whole one otherwise.
    """
    tar = TarFile(Path(path))
    try:
        return tar.size >= _END and not any(tar.read(tar.size - _END, _END))
    finally:
        tar.close()


def _read(tar: TarFile, member: Member, path: str) -> Item:
    name = escape_surrogates(f"{path}/{member.name}")
    if member.size > DEFAULT_LIMITS.file_bytes:
        problem = ImageError(f"it has {member.size} bytes, more than an image may have.")
        return Item(name, b"", problem, archive=path)
    return Item(name, tar.read(member.offset, member.size), archive=path)


def _is_image(member: Member) -> bool:
    return PurePosixPath(member.name).suffix.lower() in IMAGE_SUFFIXES


def count_tar(path: str) -> int:
    """The number of images in a tar, from its headers."""
    tar = TarFile(Path(path))
    try:
        return sum(map(_is_image, tar.members()))
    finally:
        tar.close()
