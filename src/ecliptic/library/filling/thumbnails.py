"""Small pictures of the pictures of a library, for pages of hits."""

import hashlib
import io
from collections.abc import Sequence

from PIL import Image

from ecliptic.errors import ImageError
from ecliptic.index import KeyedTable, StoreRow
from ecliptic.inputs import WHITE, flatten, open_image, read_bytes
from ecliptic.library.filling.places import unescape

THUMBNAIL = 160  # pixels of the longer edge
LARGEST_THUMBNAIL = 8192  # bytes
_QUALITIES = (80, 60, 40, 20)
_SMALLER = 96  # pixels, of a thumbnail that is too large in every quality
_EASY = ("RGB", "RGBA", "L", "LA")  # modes that are resized before they are flattened


def make_thumbnail(image: Image.Image) -> bytes:
    """A JPEG of at most 8,192 bytes, upright, without metadata."""
    if image.mode not in _EASY:
        image = flatten(image, WHITE)
    scale = min(1.0, THUMBNAIL / max(image.size))
    to = [max(1, round(edge * scale)) for edge in image.size]
    small = flatten(image.resize(to, Image.Resampling.BICUBIC, reducing_gap=2.0), WHITE)
    for edge in (THUMBNAIL, _SMALLER):
        small.thumbnail((edge, edge))
        for quality in _QUALITIES:
            out = io.BytesIO()
            small.save(out, "JPEG", quality=quality, comment=b"")
            if out.tell() <= LARGEST_THUMBNAIL:
                return out.getvalue()
    return b""


def read_thumbnail(row: StoreRow) -> bytes:
    """The thumbnail of a row, from its file.

    Raises:
        ImageError: there is no such file, it is no image, or has another content than the row.
    """
    if not row["path"]:
        raise ImageError("it has no file of its own.")
    data = read_bytes(unescape(str(row["path"])))
    if row["content"] and hashlib.sha256(data).hexdigest() != row["content"]:
        raise ImageError("the file has another content now.")
    return make_thumbnail(open_image(data))


def find_thumbnails(table: KeyedTable, rows: Sequence[StoreRow]) -> list[bytes | None]:
    """The thumbnail of each row: of the table, or made from its file; None where there is none."""
    contents = dict.fromkeys(str(content) for row in rows if (content := row["content"]))
    found = {id_: cells["jpeg"] for id_, cells in table.get(list(contents)).items()}
    return [found.get(str(row["content"])) or _from_file(row) for row in rows]


def _from_file(row: StoreRow) -> bytes | None:
    try:
        return read_thumbnail(row) or None
    except ImageError:
        return None
