"""Groups of pictures that resemble each other, each with a suggestion which one to keep.

The best picture of a group is kept: most pixels, then most bytes, then the oldest. The others of
its group all resemble it as much as was asked for; two of them may resemble each other less.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ecliptic.errors import InputError
from ecliptic.index import ColumnValue, Filter, NearPairs, Store, StoreRow

MOST_PAIRS = 5_000_000  # that are held in memory
_FACTS = ("path", "size", "modified", "content", "width", "height", "folder", "name")


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures that resemble one of them, which is the one to keep."""

    keep: StoreRow
    others: tuple[StoreRow, ...]  # the most similar first
    scores: tuple[float, ...]  # cosine of each of the others with the one to keep

    @property
    def same(self) -> int:
        """How many of the others have the same bytes as the one to keep."""
        return sum(one["content"] == self.keep["content"] for one in self.others)


def find_groups(store: Store, threshold: float, where: Filter | str | None) -> list[DuplicateGroup]:
    """The groups, the largest first.

    Raises:
        InputError: too many pairs reach the threshold.
    """
    near = _neighbours(store.near_pairs(threshold))
    rows = _read_rows(store, near, where)
    left = sorted(rows, key=lambda id_: _worth(rows[id_]))
    taken: set[str] = set()
    groups = []
    for id_ in left:
        if id_ in taken:
            continue
        own = [(other, score) for other, score in near[id_] if other in rows and other not in taken]
        if own:
            own.sort(key=lambda pair: (-pair[1], pair[0]))
            taken |= {id_, *(other for other, _ in own)}
            others = tuple(rows[other] for other, _ in own)
            groups.append(DuplicateGroup(rows[id_], others, tuple(score for _, score in own)))
    return sorted(groups, key=lambda group: (-len(group.others), str(group.keep["id"])))


def _neighbours(blocks: Iterable[NearPairs]) -> dict[str, list[tuple[str, float]]]:
    """By id: the ids that resemble it, with their cosines."""
    near: dict[str, list[tuple[str, float]]] = defaultdict(list)
    count = 0
    for block in blocks:
        count += len(block.left)
        if count > MOST_PAIRS:
            raise InputError(
                f"more than {MOST_PAIRS} pairs resemble each other so much; use a higher "
                "threshold, or a filter."
            )
        for left, right, score in zip(block.left, block.right, block.scores.tolist(), strict=True):
            near[left].append((right, score))
            near[right].append((left, score))
    return near


def _read_rows(store: Store, ids: Iterable[str], where: Filter | str | None) -> dict[str, StoreRow]:
    """The rows with these ids that pass the filter."""
    wanted = set(ids)
    blocks = store.read(where=where, columns=_FACTS)
    return {str(row["id"]): row for block in blocks for row in block.rows() if row["id"] in wanted}


def _worth(row: StoreRow) -> tuple[Any, ...]:
    """What sorts the picture to keep first."""
    pixels = _number(row["width"]) * _number(row["height"])
    modified = row["modified"] or datetime.max
    return (-pixels, -_number(row["size"]), modified, len(str(row["id"])), row["id"])


def _number(value: ColumnValue | None) -> int:
    return value if isinstance(value, int) else 0
