"""Tells the kind of a file from its first bytes, whatever its name.

About one in five "broken" weight files is not a weight file: it is a Git LFS pointer, an error page
or half a download. `refuse_kind` says so, before a parser fails with an unclear error.
"""

import os
import re
from pathlib import Path
from typing import Literal, NoReturn

from ecliptic.errors import CorruptFileError
from ecliptic.storage.opening import open_regular

FileKind = Literal[
    "empty",
    "html",
    "image",
    "json",
    "legacy",
    "lfs",
    "pickle",
    "safetensors",
    "tar",
    "unknown",
    "zip",
]
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # best first
# torch/serialization.py: MAGIC_NUMBER 0x1950a86a20f9469cfc6c, as a pickle of its own
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|head|!--)", re.IGNORECASE)

# The first bytes of images, in formats that are read here or not; ISO 14496-12 for "ftyp"
_IMAGES = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("JPEG", rb"\xff\xd8\xff"),
        ("PNG", rb"\x89PNG\r\n\x1a\n"),
        ("GIF", rb"GIF8[79]a"),
        ("WebP", rb"RIFF.{4}WEBP"),
        ("BMP", rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0"),  # known sizes of its header
        ("TIFF", rb"II[*+]\0|MM\0[*+]"),
        ("AVIF", rb".{4}ftyp(?:avi[fs]|mi[fa][1f].{4,40}?avif)"),
        ("HEIC", rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"),
        ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        ("JPEG 2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
        ("Photoshop", rb"8BPS\0\x01"),
        ("QOI", rb"qoif"),
    )
)


def sniff_image(path: str | os.PathLike[str]) -> str | None:
    """The format of an image, by its first bytes: "PNG", "HEIC"; None if it is no image.

    Raises:
        StorageError: it is a pipe, device, socket or folder.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file:
        return _find_format(file.read(64))


def _find_format(start: bytes) -> str | None:
    return next((name for name, pattern in _IMAGES if pattern.match(start)), None)


def sniff(path: Path) -> FileKind:
    """The kind of the file at `path`; "zip" is what torch.save and TorchScript write.

    Raises:
        CorruptFileError: it is a pipe, device, socket or folder.
    """
    start = _read_start(path)
    if not start:
        return "empty"
    if start.startswith(_LFS):
        return "lfs"
    if start[8:9] == b"{" and b"\0" in start[:8]:  # the header's length, then the header
        return "safetensors"  # tested before zip and pickle: a length may begin with their bytes
    if start.startswith(b"PK"):
        return "zip"
    if _HTML.match(start):
        return "html"
    if start.lstrip()[:1] in (b"{", b"["):
        return "json"
    if start[:1] == b"\x80" and LEGACY_MAGIC in start[:32]:
        return "legacy"
    if start[:1] == b"\x80":
        return "pickle"
    if start[257:262] == b"ustar":
        return "tar"
    return "image" if _find_format(start) else "unknown"


def _read_start(path: Path) -> bytes:
    with open_regular(path, CorruptFileError) as file:
        return file.read(512)


def refuse_kind(path: Path, kind: FileKind, wanted: str) -> NoReturn:
    """Raise an error that says what `path` is, that `wanted` was expected, and what to do.

    Raises:
        CorruptFileError: always.
    """
    data = _read_start(path)
    start = data.decode(errors="replace")
    if kind == "lfs":
        size = re.search(r"^size (\d+)$", start, re.MULTILINE)
        digest = re.search(r"^oid sha256:([0-9a-f]{64})$", start, re.MULTILINE)
        what = (
            f"this is a Git LFS pointer, not the weights ({size[1] if size else '?'} bytes, "
            f"sha256 {digest[1] if digest else 'unknown'}); run `git lfs pull` in its repository"
        )
    elif kind == "json":
        what = f"this is JSON text, not {wanted}: {' '.join(start.split())[:120]}"
    elif kind == "image":
        what = (
            f"this is an image ({_find_format(data)}), not a model; name a model in its place, "
            "such as 'mini', and pass the image beside it"
        )
    else:
        what = f"this is {_PLAIN[kind]}, not {wanted}; {_FIX.get(kind, 'fetch the file again')}"
    raise CorruptFileError(f"{path}: {what}.")


_PLAIN: dict[FileKind, str] = {
    "empty": "an empty file",
    "html": "an HTML page (probably an error or login page)",
    "legacy": "a file of PyTorch before 1.6",
    "pickle": "a bare pickle",
    "safetensors": "a safetensors file",
    "tar": "a tar archive",
    "unknown": "a file of an unknown format",
    "zip": "a zip archive as torch.save writes it",
}
_FIX: dict[FileKind, str] = {
    "html": "download the file itself, with an access token if the page asks to log in",
    "pickle": "save the weights with torch.save or safetensors",
    "tar": "unpack it, or save the weights again with a recent torch.save",
}
