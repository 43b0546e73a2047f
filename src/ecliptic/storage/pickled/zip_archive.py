"""Reads PyTorch's zip archives with a strict parser of our own; nothing is extracted to disk.

PyTorch stores tensors uncompressed, so an entry is a byte range of the file that can be mapped.
Anything else in a zip (overlaps, duplicate names, paths, encryption) is refused before it is
used. PyTorch compresses only the code of TorchScript, which is never read, so its entries are not
inflated; those of NumPy are, up to a limit. Checksums are compared only then, because `torch.save`
may leave them out.

Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3 (zip64).
"""

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ecliptic.errors import CorruptFileError, UnsafeFileError
from ecliptic.storage.opening import map_file

MAX_ENTRIES = 100_000  # bigG/14 as TorchScript has about 3,000
MAX_DIRECTORY = 64 << 20  # bytes of the central directory
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_STORED, _DEFLATED = 0, 8
_ALL32, _ALL16 = 0xFFFFFFFF, 0xFFFF
_ZIP64 = 0x0001  # id of the extra field with 64-bit sizes


@dataclass(frozen=True)
class Entry:
    """One file of the archive; its bytes are `[start, start + packed)` of the zip."""

    name: str
    header: int  # where its local header begins
    start: int  # where its bytes begin
    packed: int  # bytes in the zip
    size: int  # bytes once unpacked
    deflated: bool
    crc: int  # CRC-32 of its bytes once unpacked, as the zip says


class Archive:
    """A checked zip: `entries` by name, their bytes in `memory`."""

    def __init__(self, path: Path) -> None:
        """Map `path` and check the whole directory.

        Raises:
            CorruptFileError: truncated, or the records contradict the file.
            UnsafeFileError: a well-formed zip that PyTorch would never write.
        """
        self.path = path
        self.memory: mmap.mmap = map_file(path)
        start, size, count = _find_directory(self.path, self.memory)
        self.entries: dict[str, Entry] = {}
        for entry in _read_entries(self.path, self.memory, start, size, count):
            if entry.name in self.entries:
                raise UnsafeFileError(f"{path}: two entries are named {entry.name!r}.")
            self.entries[entry.name] = entry
        _check_apart(path, list(self.entries.values()), start)

    def read(self, name: str, limit: int) -> bytes:
        """Read all bytes of a small entry of PyTorch, at most `limit`."""
        entry = self.entries[name]
        if entry.deflated:
            raise CorruptFileError(
                f"{self.path}: {name} is compressed, which PyTorch never does; save the weights "
                "again with torch.save."
            )
        return self._slice(entry, limit)

    def unpack(self, name: str, limit: int) -> bytes:
        """Read all bytes of an entry, at most `limit`, inflate them, and check their CRC-32."""
        entry = self.entries[name]
        data = self._slice(entry, limit)
        if entry.deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
            except zlib.error as error:
                raise CorruptFileError(
                    f"{self.path}: {name} cannot be unpacked: {error}."
                ) from error
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            raise CorruptFileError(f"{self.path}: {name} does not match its size and checksum.")
        return data

    def _slice(self, entry: Entry, limit: int) -> bytes:
        if max(entry.size, entry.packed) > limit:
            raise UnsafeFileError(
                f"{self.path}: {entry.name} has {entry.size} bytes, more than the {limit} allowed."
            )
        return self.memory[entry.start : entry.start + entry.packed]


def _find_directory(path: Path, memory: mmap.mmap) -> tuple[int, int, int]:
    """Find start, size and entry count of the central directory, which ends at the end record."""
    end = memory.rfind(_END, max(0, len(memory) - 22 - _ALL16))
    if end < 0 or end + 22 > len(memory):
        raise CorruptFileError(
            f"{path} is a truncated zip: its end record is missing, so the {len(memory)} bytes "
            "here are only a part; download or copy it again."
        )
    disk, first, here, count, size, start, comment = struct.unpack_from("<4H2IH", memory, end + 4)
    if end + 22 + comment != len(memory):
        raise UnsafeFileError(f"{path}: bytes follow the end of the zip.")
    if memory[max(0, end - 20) : max(0, end - 16)] == _LOCATOR:
        end, count, size, start = _find_directory64(path, memory, end - 20)
    elif disk or first or here != count:
        raise UnsafeFileError(f"{path}: a zip split over several disks cannot be read.")
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise UnsafeFileError(
            f"{path}: {count} entries in a directory of {size} bytes; at most {MAX_ENTRIES} "
            f"entries and {MAX_DIRECTORY} bytes are allowed."
        )
    if start + size != end:
        raise CorruptFileError(
            f"{path}: the zip directory should end at byte {end}, its record says {start + size}."
        )
    return start, size, count


def _find_directory64(path: Path, memory: mmap.mmap, locator: int) -> tuple[int, int, int, int]:
    """Find the same in a zip64 archive, after the position of its end record."""
    _, position, _ = struct.unpack_from("<IQI", memory, locator + 4)
    if position + 56 != locator or memory[position : position + 4] != _END64:
        raise CorruptFileError(f"{path}: the zip64 end record is not where its locator points.")
    fields = struct.unpack_from("<Q2H2I4Q", memory, position + 4)
    disk, first, here, count, size, start = fields[3:]
    if disk or first or here != count:
        raise UnsafeFileError(f"{path}: a zip split over several disks cannot be read.")
    return position, count, size, start


def _read_entries(
    path: Path, memory: mmap.mmap, start: int, size: int, count: int
) -> Iterator[Entry]:
    """Read the records of the central directory, and check each against its local header."""
    position, end = start, start + size
    for _ in range(count):
        if position + 46 > end or memory[position : position + 4] != b"PK\x01\x02":
            raise CorruptFileError(f"{path}: the zip directory is damaged at byte {position}.")
        record = struct.unpack_from("<6H3I5H2I", memory, position + 4)
        flags, method, packed, unpacked = record[2], record[3], record[7], record[8]
        name_size, extra_size, comment, header = record[9], record[10], record[11], record[-1]
        name_start, position = position + 46, position + 46 + name_size + extra_size + comment
        if position > end:
            raise CorruptFileError(f"{path}: a name runs past the end of the zip directory.")
        raw = memory[name_start : name_start + name_size]
        extra = memory[name_start + name_size : name_start + name_size + extra_size]
        unpacked, packed, header = _widen(path, extra, (unpacked, packed, header))
        name = _decode_name(path, raw)
        if flags & 0x2041 or method not in (_STORED, _DEFLATED):  # encrypted in some way
            raise UnsafeFileError(f"{path}: {name} is encrypted or packed by method {method}.")
        if method == _STORED and packed != unpacked:
            raise UnsafeFileError(f"{path}: {name} is stored but has two sizes.")
        data = _find_data(path, memory, header, raw)
        yield Entry(name, header, data, packed, unpacked, method == _DEFLATED, record[6])
    if position != end:
        raise CorruptFileError(f"{path}: the zip directory holds more than its {count} entries.")


def _widen(path: Path, extra: bytes, sizes: tuple[int, int, int]) -> list[int]:
    """Return sizes and header offset; values of 0xFFFFFFFF are in the zip64 extra field."""
    wide: Iterator[int] = iter(())
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == _ZIP64:
            body = extra[position + 4 : position + 4 + length]
            wide = iter(struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8]))
        position += 4 + length
    try:
        return [next(wide) if size == _ALL32 else size for size in sizes]
    except StopIteration:
        raise CorruptFileError(f"{path}: an entry lacks its zip64 size.") from None


def _decode_name(path: Path, raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise UnsafeFileError(f"{path}: the entry name {raw!r} is not UTF-8.") from None
    parts = name.rstrip("/").split("/")
    if not name or "\\" in name or "\0" in name or ":" in parts[0] or {"", ".", ".."} & {*parts}:
        raise UnsafeFileError(f"{path}: the entry name {name!r} points outside the archive.")
    return name


def _find_data(path: Path, memory: mmap.mmap, header: int, name: bytes) -> int:
    """Find where an entry's bytes begin, and check that its local header has the same name."""
    if header + 30 > len(memory) or memory[header : header + 4] != b"PK\x03\x04":
        raise CorruptFileError(f"{path}: {name!r} has no local header at byte {header}.")
    name_size, extra_size = struct.unpack_from("<2H", memory, header + 26)
    if memory[header + 30 : header + 30 + name_size] != name:
        raise UnsafeFileError(f"{path}: {name!r} has another name in its local header.")
    return header + 30 + int(name_size) + int(extra_size)


def _check_apart(path: Path, entries: list[Entry], directory: int) -> None:
    """Refuse entries that overlap each other or the directory, and bytes before the first."""
    entries = sorted(entries, key=lambda entry: entry.header)
    if entries and entries[0].header:
        raise UnsafeFileError(f"{path}: {entries[0].header} bytes precede the zip.")
    for entry, following in pairwise(entries):
        if entry.start + entry.packed > following.header:
            raise UnsafeFileError(f"{path}: {entry.name} and {following.name} overlap.")
    if entries and entries[-1].start + entries[-1].packed > directory:
        raise UnsafeFileError(f"{path}: {entries[-1].name} overlaps the directory.")
