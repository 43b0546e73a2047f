"""What a store answers: counts of rows written, hits of a search, problems and repairs.

K hits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.batches import RefusedRow
from ecliptic.index.columns import ColumnValue

_AT_ONCE = 4096  # rows whose products are held at once


@dataclass(frozen=True)
class Written:
    """What became of the rows of one call of `upsert`."""

    added: int
    replaced: int  # rows whose id was in the store
    repeated: int  # rows whose id came again later in the call; the last one was stored
    refused: tuple[RefusedRow, ...]  # rows that cannot be stored, with reasons


@dataclass(frozen=True)
class Hits:
    """The rows nearest to one query, best first; equal scores in the order of their ids."""

    ids: tuple[str, ...]  # K or fewer
    scores: NDArray[np.float32]  # cosines, one for each id
    columns: dict[str, list[ColumnValue | None]] = field(default_factory=dict)  # if asked for


@dataclass(frozen=True)
class SearchPlan:
    """How a search was answered."""

    # "map": int8 codes, then exact scores of the best; "scan": exact scores of all rows; "graph": a
    # server's index of neighbours, which can miss rows
    route: str
    candidates: int  # rows that passed the filter
    scored: int  # rows whose exact score was computed, over all queries
    probed: float = 1.0  # the part of the map that was looked at


@dataclass(frozen=True)
class SearchResult:
    """The answer to a search."""

    hits: tuple[Hits, ...]  # one for each query
    plan: SearchPlan


@dataclass(frozen=True)
class NearPairs:
    """Some pairs of rows that resemble each other."""

    left: tuple[str, ...]  # ids
    right: tuple[str, ...]
    scores: NDArray[np.float32]  # their cosines


@dataclass(frozen=True)
class StoreProblem:
    """Something wrong in a store."""

    where: str  # the file, or the part
    what: str  # a sentence, with what to do


@dataclass(frozen=True)
class Repaired:
    """What `repair` did."""

    actions: tuple[str, ...]  # sentences; none if nothing was to do
    lost: int  # rows that are no longer there and must be added again
    left: tuple[StoreProblem, ...] = ()  # problems that remain


def exact_scores(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosines of (N, E) unit rows and an (E,) query, summed in float64 and rounded once.

    So the score of a row does not depend on the rows beside it, and equal rows have equal scores.
    """
    scores = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _AT_ONCE):  # not a matmul: its sums depend on the shape
        part = slice(start, start + _AT_ONCE)
        scores[part] = (rows[part].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return scores


def best(
    ids: Sequence[str],
    scores: NDArray[np.float32],
    k: int,
    columns: Mapping[str, Sequence[ColumnValue | None]] | None = None,
) -> Hits:
    """The `k` best of some rows; equal scores in the order of their ids."""
    order = sorted(range(len(ids)), key=lambda row: (-float(scores[row]), ids[row]))[:k]
    values = {name: [column[row] for row in order] for name, column in (columns or {}).items()}
    return Hits(tuple(ids[row] for row in order), scores[order], values)
