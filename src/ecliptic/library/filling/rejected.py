"""The pictures of a library that could not be used, so that they are not tried again and again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecliptic.index import KeyedTable

_LONGEST = 2000  # characters of a reason


@dataclass(frozen=True)
class RejectedPicture:
    """A picture that could not be used."""

    id: str
    reason: str
    size: int = 0  # bytes, when it was tried
    mtime_ns: int = 0


class RejectedPictures:
    """The table of rejects of a library."""

    def __init__(self, folder: Path) -> None:
        self.table = KeyedTable(folder, {"reason": "string", "size": "int", "mtime_ns": "int"})
        self._known = {row["id"]: (row["size"], row["mtime_ns"]) for row in self.table.rows()}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[RejectedPicture]:
        for row in self.table.rows():
            yield RejectedPicture(**row)

    def ids(self) -> list[str]:
        """The ids of all of them."""
        return list(self._known)

    def has(self, id_: str) -> bool:
        """Whether a picture with this id was rejected, as it is or as it was."""
        return id_ in self._known

    def is_known(self, id_: str, size: int, mtime_ns: int) -> bool:
        """Whether this file was rejected as it is."""
        return self._known.get(id_) == (size, mtime_ns)

    def add(self, rejected: Sequence[RejectedPicture]) -> None:
        """Note rejects, in place of older ones of the same ids."""
        if rejected:
            reasons = [one.reason.encode(errors="backslashreplace").decode() for one in rejected]
            self.table.upsert(
                [one.id for one in rejected],
                {
                    "reason": [reason[:_LONGEST] for reason in reasons],
                    "size": [one.size for one in rejected],
                    "mtime_ns": [one.mtime_ns for one in rejected],
                },
            )
            self._known |= {one.id: (one.size, one.mtime_ns) for one in rejected}

    def remove(self, ids: Sequence[str]) -> None:
        """Forget rejects, which were stored after all, or are gone."""
        if there := [id_ for id_ in ids if id_ in self._known]:
            self.table.delete(there)
            for id_ in there:
                del self._known[id_]
