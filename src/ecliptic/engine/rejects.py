"""Collects, counts, lists and writes the items that could not be used."""

import json
from collections.abc import Iterator
from pathlib import Path

from ecliptic.errors import EclipticError, printable
from ecliptic.inputs import Reject
from ecliptic.storage import replace_file, text_writer

SHOWN = 5  # rejects that are listed one by one
LONGEST_NAME, LONGEST_REASON = 200, 800  # characters in a line; the file has all of them


class Rejects:
    """The rejects of one run, in the order of the items."""

    def __init__(self) -> None:
        self._rejects: list[Reject] = []

    def __len__(self) -> int:
        return len(self._rejects)

    def __iter__(self) -> Iterator[Reject]:
        return iter(sorted(self._rejects, key=lambda reject: reject.index))

    def add(self, index: int, source: str, error: EclipticError) -> None:
        """Note that item `index`, called `source`, cannot be used."""
        self._rejects.append(Reject(index, source, error))

    def lines(self, shown: int = SHOWN, others: str = "in the rejects file") -> Iterator[str]:
        """Printable lines for people: the first rejects, shortened, and the number of others.

        `others` says where those are, if they are anywhere.
        """
        for _, reject in zip(range(shown), self, strict=False):
            name = _shorten(reject.source, LONGEST_NAME)
            yield printable(f"rejected {name}: {_shorten(reject.reason, LONGEST_REASON)}")
        if len(self) > shown:
            yield f"and {len(self) - shown:,} more" + (f", {others}" if others else "")

    def to_json(self) -> list[dict[str, object]]:
        """Every reject as JSON values."""
        return [reject.to_json() for reject in self]

    def write(self, path: Path) -> None:
        """Write one JSON object per line; without rejects, remove an earlier file.

        Raises:
            StorageError: it cannot be written.
        """
        lines = [json.dumps(reject) + "\n" for reject in self.to_json()]
        if lines:
            replace_file(path, text_writer("".join(lines)))
        else:
            path.unlink(missing_ok=True)


def _shorten(text: str, length: int) -> str:
    """At most `length` characters of `text`: the beginning, and the end, which names files."""
    if len(text) <= length:
        return text
    kept = length - len("...")
    return f"{text[: kept // 2]}...{text[kept // 2 - kept :]}"
