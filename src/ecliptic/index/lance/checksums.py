"""The checksums of a table's files, in a journal beside them.

Lance reads a flipped byte as other data without an error, so each commit adds a line to
`checksums.jsonl`: the version, its rows, size and SHA-256 of each new file, and a sum of the line.
"""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecliptic.storage import (
    JournalPlace,
    append_line,
    hash_file,
    read_new_lines,
    replace_file,
    text_writer,
)

NAME = "checksums.jsonl"
TABLE = "table.lance"  # the folder of Lance beside the journal
HINT = "latest_version_hint.json"  # rewritten at each commit, and not needed
_PLACES = ("data", "_deletions", "_versions", "_transactions")


@dataclass(frozen=True)
class FileSum:
    """What a file was when it was written."""

    size: int  # bytes
    sha256: str


@dataclass
class Checksums:
    """The journal of one table."""

    folder: Path  # of the table: the journal and `table.lance` are in it
    files: dict[str, FileSum] = field(default_factory=dict)  # by path under `table.lance`
    rows: dict[int, int] = field(default_factory=dict)  # by version
    _seen: JournalPlace | None = None

    def refresh(self) -> None:
        """Read lines that other processes wrote."""
        lines, place = read_new_lines(self.folder / NAME, self._seen)
        if place is None or self._seen is None or place.file != self._seen.file:
            self.files, self.rows = {}, {}  # it was written anew
        for line in lines:
            self._take(line)
        self._seen = place

    def _take(self, line: str) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            if entry.pop("crc32") != _crc32(entry):
                return
            files = {name: FileSum(int(n), str(s)) for name, (n, s) in entry["files"].items()}
            version, rows = int(entry["version"]), int(entry["rows"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a damaged line: its files have no checksum any more
        self.files |= files
        self.rows[version] = rows

    def unrecorded(self) -> list[Path]:
        """Files of the table that no line is about."""
        return [path for name, path in self._there() if name not in self.files]

    def _there(self) -> Iterator[tuple[str, Path]]:
        for place in _PLACES:
            folder = self.folder / TABLE / place
            if not folder.is_dir():
                continue
            with os.scandir(folder) as entries:
                names = sorted(e.name for e in entries if e.name != HINT and e.is_file())
            yield from ((f"{place}/{name}", folder / name) for name in names)

    def record(self, version: int, rows: int, files: list[Path]) -> None:
        """Write a line about new files, which are on the disk."""
        sums = {self._name(path): _sum_up(path) for path in files}
        append_line(self.folder / NAME, _line(version, rows, sums))
        self.refresh()

    def write_anew(self, version: int, rows: int) -> None:
        """Write the journal of a table at this version, without files that are no longer there."""
        self.refresh()
        there = {name for name, _ in self._there()}
        files = {name: found for name, found in self.files.items() if name in there}
        replace_file(self.folder / NAME, text_writer(_line(version, rows, files) + "\n"))
        self.refresh()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder / TABLE).as_posix()

    def is_intact(self, name: str) -> bool:
        """Whether a file has the bytes that it was written with, or no line is about it."""
        known = self.files.get(name)
        return known is None or _sum_up(self.folder / TABLE / name) == known


def _sum_up(path: Path) -> FileSum:
    return FileSum(path.stat().st_size, hash_file(path).hexdigest())


def _line(version: int, rows: int, files: dict[str, FileSum]) -> str:
    about = {name: [found.size, found.sha256] for name, found in files.items()}
    entry = {"version": version, "rows": rows, "files": about}
    return json.dumps(entry | {"crc32": _crc32(entry)})


def _crc32(entry: dict[str, Any]) -> int:
    """Of the line itself: a flipped byte in it must not speak against a sound file."""
    return zlib.crc32(json.dumps(entry).encode())
