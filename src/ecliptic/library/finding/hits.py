"""`LibraryHits`: what a search of a library found."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecliptic.index import SearchPlan, StoreRow
from ecliptic.library.filling.places import unescape

FindThumbnails = Callable[[Sequence[StoreRow]], list[bytes | None]]


@dataclass(frozen=True, repr=False)
class LibraryHits:
    """Pictures of a library, the best first."""

    asked: str  # for people: what was searched for
    rows: Sequence[StoreRow]  # each with its id and all columns
    scores: Sequence[float]  # cosines with the query
    ranks: Sequence[int]  # places among the pictures that passed the filter by score, from 1
    plan: SearchPlan  # how it was found; `candidates` pictures passed the filter
    _thumbnails: FindThumbnails = field(repr=False, compare=False)

    def __len__(self) -> int:
        """The number of hits."""
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each hit with its rank, its score, its id and all columns."""
        for rank, score, row in zip(self.ranks, self.scores, self.rows, strict=True):
            yield {"rank": rank, "score": score, **row}

    def __repr__(self) -> str:
        best = f", the best {self.ids[0]!r} at {self.scores[0]:.3f}" if len(self) else ""
        return f"LibraryHits({self.asked!r}, {len(self)} hits{best})"

    @property
    def ids(self) -> list[str]:
        """The ids of the pictures; of files, their absolute paths."""
        return [str(row["id"]) for row in self.rows]

    @property
    def paths(self) -> list[Path | None]:
        """The files of the pictures; None for those from tars and tables."""
        return [Path(unescape(str(path))) if (path := row["path"]) else None for row in self.rows]

    def thumbnails(self) -> list[bytes | None]:
        """A small JPEG of each hit; None where there is none."""
        return self._thumbnails(self.rows)

    def to_json(self) -> list[dict[str, Any]]:
        """For each hit its rank, score and columns, as JSON values."""
        hits: list[dict[str, Any]] = json.loads(json.dumps(list(self), default=str))
        return [{**hit, "score": round(hit["score"], 6)} for hit in hits]
