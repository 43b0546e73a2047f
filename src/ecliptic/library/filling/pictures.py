"""`NewPicture`: a file that is read once, for its content, facts, thumbnail and pixels."""

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from ecliptic.engine import Item, escape_surrogates
from ecliptic.errors import ImageError
from ecliptic.index import ColumnValue
from ecliptic.inputs import Preprocess, orientation, read_bytes
from ecliptic.library.filling.places import absolute, name_file
from ecliptic.library.filling.thumbnails import make_thumbnail

# EXIF 2.32: DateTimeOriginal with OffsetTimeOriginal, DateTime with OffsetTime
_TAKEN = ((36867, 36881), (306, 36880))
_EXIF, _MAKE, _MODEL = 0x8769, 271, 272
_TURNED = range(5, 9)  # EXIF orientations that swap width and height
_LONGEST_CAMERA = 200  # characters
_WHOLE = (1 << 63) - 1  # the largest time in nanoseconds that a table holds


@dataclass
class NewPicture:
    """One picture on its way into the library; its fields are filled as it goes."""

    item: Item
    id: str
    path: str = ""  # absolute; "" if it is no file
    size: int = 0  # bytes
    mtime_ns: int = 0  # time of the last change
    data: bytes = b""  # while it waits for its decoder
    content: str = ""  # SHA-256 of its bytes
    facts: dict[str, ColumnValue | None] = field(default_factory=dict)
    thumbnail: bytes = b""  # JPEG
    extra: dict[str, Any] = field(default_factory=dict)  # columns of a table

    def read(self, preprocess: Preprocess) -> "NewPicture":
        """Read the bytes and sum them up.

        Raises:
            ImageError: they cannot be read, or are too many.
        """
        self.data = read_bytes(self.item.value, preprocess.limits, self.item.name)
        self.size = len(self.data)
        self.content = hashlib.sha256(self.data).hexdigest()
        return self

    def prepare(self, preprocess: Preprocess) -> tuple[str, Any]:
        """Its name and its pixels; finds the facts and the thumbnail on the way.

        Raises:
            ImageError: it cannot be decoded.
        """
        try:
            return self.id, preprocess(self.data, name=self.item.name, look=self._look)
        finally:
            self.data = b""

    def _look(self, image: Image.Image, size: tuple[int, int]) -> None:
        lying = (orientation(image) or 1) in _TURNED
        self.facts = {
            "width": size[lying],  # as it is shown
            "height": size[not lying],
            "format": (image.format or "").lower() or None,
            **_read_exif(image),
        }
        self.thumbnail = make_thumbnail(image)


def find_file(item: Item) -> NewPicture:
    """The picture of an item, with the size and the time of its file.

    Raises:
        ImageError: the file is gone or cannot be looked at.
    """
    if isinstance(item.value, bytes):
        return NewPicture(item, name_picture(item))
    path = absolute(item.value)
    try:
        found = os.stat(path)  # noqa: PTH116 of a name as it is
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{item.name}: it cannot be read: {reason}.", source=item.name) from None
    time = max(-_WHOLE, min(_WHOLE, found.st_mtime_ns))  # clocks can be wrong by centuries
    return NewPicture(item, name_picture(item), path, found.st_size, time)


def name_picture(item: Item) -> str:
    """The id: of a file its absolute path; of what a tar or table holds, that and its name."""
    if isinstance(item.value, str) and item.value:
        return name_file(item.value)
    if not item.archive:
        return item.name
    member = item.name.removeprefix(escape_surrogates(item.archive))
    joint = "" if member != item.name else "/"  # rows of tables may have names of their own
    return name_file(item.archive) + joint + member


def is_numbered(item: Item) -> bool:
    """Whether the id is the number of a row, which is of another picture when rows are added."""
    return bool(item.archive) and name_picture(item).startswith(f"{name_file(item.archive)}, ")


def _read_exif(image: Image.Image) -> dict[str, ColumnValue | None]:
    """When and with which camera a photograph was taken; damaged metadata counts as none."""
    try:
        tags = dict(image.getexif())
        tags |= image.getexif().get_ifd(_EXIF)
    except Exception:  # Pillow raises many kinds
        return {"taken": None, "camera": None}
    return {"taken": _read_taken(tags), "camera": _read_camera(tags)}


def _read_taken(tags: dict[int, Any]) -> datetime | None:
    """The time of EXIF, `2024:05:01 12:30:00`; in UTC if its zone is there, else as it stands."""
    for tag, offset in _TAKEN:
        text, zone = (_text(tags.get(one)) for one in (tag, offset))
        for form, given in (("%Y:%m:%d %H:%M:%S%z", text + zone), ("%Y:%m:%d %H:%M:%S", text)):
            try:
                found = datetime.strptime(given, form)
                return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
            except (ValueError, OverflowError):  # no time, or before the year 1
                continue
    return None


def _read_camera(tags: dict[int, Any]) -> str | None:
    """Maker and model, without the maker twice."""
    make, model = (_text(tags.get(tag)) for tag in (_MAKE, _MODEL))
    text = model if model.lower().startswith(make.lower()) else f"{make} {model}"
    text = text.encode(errors="replace").decode().replace("\0", "").strip()
    return text[:_LONGEST_CAMERA] or None


def _text(value: Any) -> str:
    """The text of a tag; "" for other values, which damaged files have."""
    return value.strip("\0 ") if isinstance(value, str) else ""
