"""Tells the kind of a file from its first bytes, whatever its name.

About one in five "broken" weight files is not a weight file: it is a Git LFS pointer, an error page
or half a download. `refuse_kind` says so, before a parser fails with an unclear error.
"""

import re
from pathlib import Path
from typing import Literal, NoReturn

from ecliptic.errors import CorruptFileError
from ecliptic.storage.opening import open_regular

FileKind = Literal[
    "empty", "html", "json", "legacy", "lfs", "pickle", "safetensors", "tar", "unknown", "zip"
]
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")  # best first
# torch/serialization.py: MAGIC_NUMBER 0x1950a86a20f9469cfc6c, as a pickle of its own
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|\?xml|head|!--)", re.IGNORECASE)


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
    return "tar" if start[257:262] == b"ustar" else "unknown"


def _read_start(path: Path) -> bytes:
    with open_regular(path, CorruptFileError) as file:
        return file.read(512)


def refuse_kind(path: Path, kind: FileKind, wanted: str) -> NoReturn:
    """Raise an error that says what `path` is, that `wanted` was expected, and what to do.

    Raises:
        CorruptFileError: always.
    """
    start = _read_start(path).decode(errors="replace")
    if kind == "lfs":
        size = re.search(r"^size (\d+)$", start, re.MULTILINE)
        digest = re.search(r"^oid sha256:([0-9a-f]{64})$", start, re.MULTILINE)
        what = (
            f"this is a Git LFS pointer, not the weights ({size[1] if size else '?'} bytes, "
            f"sha256 {digest[1] if digest else 'unknown'}); run `git lfs pull` in its repository"
        )
    elif kind == "json":
        what = f"this is JSON text, not {wanted}: {' '.join(start.split())[:120]}"
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
