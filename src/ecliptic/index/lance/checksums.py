"""The checksums of a table's files, in a journal beside them.

Lance reads a flipped byte as other data without an error, so each commit adds a line to
`checksums.jsonl`: the version, its rows, and size and SHA-256 of each new file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecliptic.storage import append_line, hash_file, read_whole_lines, replace_file, text_writer

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
    _lines: int = 0  # that were read

    def refresh(self) -> None:
        """Read lines that other processes wrote."""
        lines = read_whole_lines(self.folder / NAME)
        if len(lines) < self._lines:  # it was written anew
            self.files, self.rows, self._lines = {}, {}, 0
        for line in lines[self._lines :]:
            self._take(line)
        self._lines = len(lines)

    def _take(self, line: str) -> None:
        try:
            entry: dict[str, Any] = json.loads(line)
            files = {name: FileSum(int(n), str(s)) for name, (n, s) in entry["files"].items()}
            self.rows[int(entry["version"])] = int(entry["rows"])
        except (ValueError, KeyError, TypeError):
            return  # a damaged line: its files have no checksum, which `check` tells
        self.files |= files

    def unrecorded(self) -> list[Path]:
        """Files of the table that no line is about."""
        return [path for name, path in self._there() if name not in self.files]

    def _there(self) -> Iterator[tuple[str, Path]]:
        for place in _PLACES:
            folder = self.folder / TABLE / place
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.name != HINT and path.is_file():
                    yield f"{place}/{path.name}", path

    def record(self, version: int, rows: int, files: list[Path]) -> None:
        """Write a line about new files, which are on the disk."""
        sums = {self._name(path): _sum_up(path) for path in files}
        append_line(self.folder / NAME, _line(version, rows, sums))
        self.refresh()

    def forget_missing(self) -> None:
        """Write the journal anew without the files that are no longer there."""
        self.refresh()
        there = {name for name, _ in self._there()}
        self.files = {name: found for name, found in self.files.items() if name in there}
        newest = max(self.rows, default=0)
        text = _line(newest, self.rows.get(newest, 0), self.files) + "\n"
        replace_file(self.folder / NAME, text_writer(text))
        self._lines = 1

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder / TABLE).as_posix()

    def is_intact(self, name: str) -> bool:
        """Whether a file has the bytes that it was written with."""
        return _sum_up(self.folder / TABLE / name) == self.files[name]


def _sum_up(path: Path) -> FileSum:
    return FileSum(path.stat().st_size, hash_file(path).hexdigest())


def _line(version: int, rows: int, files: dict[str, FileSum]) -> str:
    about = {name: [found.size, found.sha256] for name, found in files.items()}
    return json.dumps({"version": version, "rows": rows, "files": about})
