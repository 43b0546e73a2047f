"""Groups of pictures that resemble each other, each with a suggestion which one to keep.

The best picture of a group is kept: most pixels, then most bytes, then the oldest. The others of
its group all resemble it as much as was asked for; two of them may resemble each other less.

Copies, files of the same bytes, have one vector. Only the best of them is compared with others, so
that a thousand copies are not a million pairs.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ecliptic.errors import InputError
from ecliptic.index import ColumnValue, Filter, NearPairs, Store, StoreRow
from ecliptic.library.filling.places import unescape
from ecliptic.library.filling.rows import modified_of

MOST_PAIRS = 2_000_000  # that are held in memory, about 400 MB
_FACTS = ("path", "size", "modified", "content", "width", "height", "folder", "name")
_Near = dict[str, list[tuple[str, float]]]  # by id: the ids that resemble it, with their cosines


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures that resemble one of them, which is the one to keep."""

    keep: StoreRow
    others: tuple[StoreRow, ...]  # the most similar first
    scores: tuple[float, ...]  # cosine of each of the others with the one to keep

    def is_copy(self, row: StoreRow) -> bool:
        """Whether a picture has the same bytes as the one to keep."""
        return row["content"] is not None and row["content"] == self.keep["content"]

    @property
    def same(self) -> int:
        """How many of the others have the same bytes as the one to keep."""
        return sum(map(self.is_copy, self.others))


def unchanged_file(row: StoreRow) -> Path | None:
    """The file of a picture, if its size and time are those that were indexed; else None."""
    if not isinstance(row["path"], str):
        return None
    path = Path(unescape(row["path"]))
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    now = found.st_size, modified_of(found.st_mtime_ns)
    return path if now == (row["size"], row["modified"]) else None


def find_groups(store: Store, threshold: float, where: Filter | str | None) -> list[DuplicateGroup]:
    """The groups, the largest first.

    Raises:
        InputError: too many pairs reach the threshold.
    """
    copies = _find_copies(store, where)
    without = {str(row["id"]) for _, *others in copies.values() for row in others}
    near = _neighbours(store.near_pairs(threshold, where, without))
    rows = {str(row["id"]): row for same in copies.values() for row in same}
    rows |= _read_rows(store, near.keys() - rows.keys())
    groups = _group(rows, near, copies)
    return sorted(groups, key=lambda group: (-len(group.others), str(group.keep["id"])))


def _group(
    rows: dict[str, StoreRow], near: _Near, copies: dict[str, list[StoreRow]]
) -> Iterable[DuplicateGroup]:
    """The groups: the best picture that is left, and all that resemble it."""
    taken: set[str] = set()
    heads = [id_ for id_ in rows if id_ in near or id_ in copies]
    for id_ in sorted(heads, key=lambda one: _worth(rows[one])):
        if id_ in taken:
            continue
        found = [(other, score) for other, score in near.get(id_, ()) if other not in taken]
        found = [(other, score) for other, score in found if other in rows]
        taken |= {id_, *(other for other, _ in found)}
        own = [(row, 1.0) for row in copies.get(id_, ())[1:]]
        for other, score in found:
            own += [(row, score) for row in copies.get(other, [rows[other]])]
        if own:
            own.sort(key=lambda pair: (-pair[1], str(pair[0]["id"])))
            others, scores = zip(*own, strict=True)
            yield DuplicateGroup(rows[id_], others, scores)


def _find_copies(store: Store, where: Filter | str | None) -> dict[str, list[StoreRow]]:
    """By the id of the best one: the files of the same bytes, the best first."""
    times: Counter[ColumnValue] = Counter()
    for block in store.read(where=where, columns=["content"]):
        times.update(content for content in block.columns["content"] if content is not None)
    contents = {content for content, count in times.items() if count > 1}
    del times
    found: dict[ColumnValue | None, list[StoreRow]] = defaultdict(list)
    for block in store.read(where=where, columns=_FACTS) if contents else ():
        for row in block.rows():
            if row["content"] in contents:
                found[row["content"]].append(row)
    groups = (sorted(rows, key=_worth) for rows in found.values() if len(rows) > 1)
    return {str(rows[0]["id"]): rows for rows in groups}


def _neighbours(blocks: Iterable[NearPairs]) -> _Near:
    near: _Near = defaultdict(list)
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
    return dict(near)


def _read_rows(store: Store, ids: Collection[str]) -> dict[str, StoreRow]:
    if not ids:
        return {}
    return {
        str(row["id"]): row
        for block in store.read(ids=list(ids), columns=_FACTS)
        for row in block.rows()
    }


def _worth(row: StoreRow) -> tuple[Any, ...]:
    """What sorts the picture to keep first."""
    pixels = _number(row["width"]) * _number(row["height"])
    modified = row["modified"] or datetime.max
    return (-pixels, -_number(row["size"]), modified, len(str(row["id"])), row["id"])


def _number(value: ColumnValue | None) -> int:
    return value if isinstance(value, int) else 0
