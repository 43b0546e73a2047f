"""The files in a tar, by a walk over its headers; nothing is unpacked or executed.

Reads ustar, GNU and pax headers (POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format"). Names of
members are names only, yet links, devices, sparse files and names that leave the folder are
refused: such a tar is damaged or hostile. Compressed tars cannot be read at any place.
"""

import os
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from ecliptic.errors import StorageError, printable, warn
from ecliptic.storage.opening import open_regular

BLOCK = 512  # bytes
LONGEST_NAME = 1 << 16  # bytes of a long name or of the records before a member
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"
}  # fmt: skip
_KINDS = {
    b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe",
    b"S": "a sparse file", b"D": "a list of files", b"M": "a part of a file", b"V": "a label",
}  # fmt: skip
_END = bytes(BLOCK)
_FILES = (b"0", b"\0", b"7")
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*\Z")


class TruncatedTarWarning(UserWarning):
    """A tar ends before its last member does; what is whole before that is used."""


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int  # of its first byte
    size: int  # bytes


class TarFile:
    """A tar that is open for reading at any place.

    Raises:
        StorageError: it is missing, no regular file, or compressed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open_regular(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
        self.close = weakref.finalize(self, self._file.close)  # at the latest with this object
        facts = os.fstat(self._file.fileno())
        self.size = facts.st_size
        self.facts = facts.st_size, facts.st_mtime_ns  # to see that the file is still the same
        begin = self.read(0, 6)
        for magic, kind in _COMPRESSED.items():
            if begin.startswith(magic):
                self.close()
                raise StorageError(
                    f"{path} is compressed with {kind}, so nothing in it can be read without all "
                    "that is before; unpack it to a plain .tar (images are compressed already)."
                )

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`, in any order and any thread."""
        return os.pread(self._file.fileno(), size, offset)

    def members(self) -> Iterator[Member]:
        """The files in the tar, in order.

        Raises:
            StorageError: it is damaged, or holds what is refused.

        Warns:
            TruncatedTarWarning: it ends too early.
        """
        names = _Names()
        at = end = 0
        while len(header := self.read(at, BLOCK)) == BLOCK and header != _END:
            size = self._check(header, at)
            kind, data = header[156:157], at + BLOCK
            if kind in (b"x", b"g", b"L", b"K"):
                if size > LONGEST_NAME:
                    self._refuse(at, f"has {size} bytes of names, more than {LONGEST_NAME}")
                names.add(kind, self.read(data, size))
            else:
                name, size = names.take(header, size, partial(self._refuse, at))
                self._check_name(name, at)
                if kind in _FILES and not name.endswith("/"):
                    if data + size > self.size:
                        break
                    yield Member(name, data, size)
                elif kind not in (b"5", *_FILES):
                    what = _KINDS.get(kind, f"of the unknown kind {kind!r}")
                    self._refuse(at, f"holds {name!r}, which is {what}; tar plain files only")
            end = data + size
            if end > self.size:
                break
            at = data + -(-size // BLOCK) * BLOCK
        else:
            if len(header) in (0, BLOCK) and end <= self.size:  # the last padding may be missing
                return
        warn(
            f"{self.path} is cut short: it ends inside the member at byte {at}; what is whole "
            "before that is used, so fetch it again",
            TruncatedTarWarning,
            stacklevel=None,
        )

    def _check(self, header: bytes, at: int) -> int:
        """The size in a header whose checksum is right."""
        field = header[148:156]  # counts as spaces
        written, found = _number(field), sum(header) - sum(field) + 8 * ord(" ")
        if written != found and written != found - 256 * _count_high(header, field):
            what = "is no tar file" if at == 0 else f"is damaged at byte {at}"
            raise StorageError(f"{self.path} {what}: the sum of a header is wrong.")
        size = _number(header[124:136])
        if size is None:
            self._refuse(at, "has a member with a size that is no number")
        return size

    def _check_name(self, name: str, at: int) -> None:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            self._refuse(at, f"holds {name[:200]!r}, a name that leaves the folder; tar it anew")

    def _refuse(self, at: int, why: str) -> NoReturn:
        raise StorageError(f"{printable(self.path)} {why} (header at byte {at}).")


class _Names:
    """Names and sizes that stand before a member, because its header is too small for them."""

    def __init__(self) -> None:
        self.always: dict[str, str] = {}
        self.next: dict[str, str] = {}

    def add(self, kind: bytes, data: bytes) -> None:
        if kind == b"L":
            self.next["path"] = _text(data.rstrip(b"\0"))
        elif kind in (b"x", b"g"):
            (self.next if kind == b"x" else self.always).update(_pax_records(data))

    def take(self, header: bytes, size: int, refuse: Callable[[str], NoReturn]) -> tuple[str, int]:
        """The name and the size of the member with this header."""
        records, self.next = self.always | self.next, {}
        name = _cut(header[:100])
        if header[257:263] == b"ustar\0" and (prefix := _cut(header[345:500])):
            name = f"{prefix}/{name}"
        if not records:
            return name, size
        if any(key.startswith("GNU.sparse.") for key in records):
            refuse(f"holds {name!r}, which is a sparse file; tar plain files only")
        written = records.get("size", "")
        if written and not (written.isascii() and written.isdecimal() and len(written) < 20):
            refuse(f"has a member whose size is {written[:40]!r}")
        return records.get("path", name), int(written) if written else size


def _pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """(key, value) of "LENGTH KEY=VALUE\\n" records; what is no record ends them."""
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6:
            return
        record, data = data[: int(length)], data[int(length) :]
        key, equals, value = record[len(length) + 1 : -1].partition(b"=")
        if not equals:
            return
        yield _text(key), _text(value)


def _number(field: bytes) -> int | None:
    """Octal digits, or 95 bits in base 256 (GNU); None for what is neither, or negative."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    found = _OCTAL.match(field)
    return None if found is None else int(found[1] or b"0", 8)


def _count_high(header: bytes, field: bytes) -> int:
    """Bytes above 127, which old tars summed as negative numbers; those of `field` do not count."""
    return sum(byte > 127 for byte in header) - sum(byte > 127 for byte in field)


def _cut(field: bytes) -> str:
    return _text(field.partition(b"\0")[0])


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
