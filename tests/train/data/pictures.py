"""Small pictures and tars of them."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

TEXT = "a caption"


def png(number: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> bytes:
    """A PNG of one colour, another for each number."""
    colour = (number * 37 % 256, number * 91 % 256, 128)
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def pairs(first: int, last: int) -> list[tuple[str, bytes]]:
    """Members of examples with a picture and a caption, from `first` to before `last`."""
    return [
        member
        for number in range(first, last)
        for member in (
            (f"{number:04}.png", png(number)),
            (f"{number:04}.txt", f"thing {number}".encode()),
        )
    ]


def colour_of(picture: object) -> tuple[int, ...]:
    """The colour of a picture of `png`."""
    assert isinstance(picture, bytes | Path)
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
        found = image.convert("RGB").getpixel((0, 0))
    assert isinstance(found, tuple)
    return tuple(int(value) for value in found)
