"""Answers a query from the store of a library, with diversity and pages.

K hits, N candidates, E vector size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import check_count, check_range
from ecliptic.engine import Clip
from ecliptic.errors import InputError
from ecliptic.index import Filter, Hits, Store, print_filter
from ecliptic.library.finding.hits import FindThumbnails, LibraryHits
from ecliptic.library.finding.queries import LibraryQuery

CANDIDATES = 1000  # rows that a diverse search chooses from; one number, so that pages join


@dataclass(frozen=True)
class HowToFind:
    """The arguments of `Library.search` beside the query."""

    k: int
    where: Filter | str | None
    offset: int
    diversity: float
    exact: bool

    def __post_init__(self) -> None:
        check_count("k", self.k)
        check_count("offset", self.offset, least=0)
        check_range("diversity", self.diversity, 0.0, 1.0)
        if self.diversity and self.last > CANDIDATES:
            raise InputError(
                f"with `diversity` only the best {CANDIDATES} hits can be shown, but offset and k "
                f"ask for {self.last}; ask for fewer, or set diversity to 0."
            )

    def describe(self, query: LibraryQuery) -> str:
        """The query and the filter, for people."""
        if self.where is None:
            return query.describe()
        where = self.where if isinstance(self.where, str) else print_filter(self.where)
        return f"{query.describe()}, where {where}"

    @property
    def last(self) -> int:
        """The rank of the last hit."""
        return self.offset + self.k

    @property
    def pool(self) -> int:
        """The number of rows to take from the store."""
        return CANDIDATES if self.diversity else self.last


def find_hits(
    store: Store,
    queries: Sequence[LibraryQuery],
    load: Callable[[], Clip],
    how: HowToFind,
    thumbnails: FindThumbnails,
) -> list[LibraryHits]:
    """The hits of each query from `offset` to `offset + k`; see `Library.search`."""
    if not queries:
        return []
    tree = None if how.where is None else store.read_filter(how.where)  # before models are loaded
    vectors = np.stack([query.vector(store, load) for query in queries])
    names = list(store.schema.columns)
    found = store.search(vectors, how.pool, tree, names, exact=how.exact)
    answers = []
    for query, hits in zip(queries, found.hits, strict=True):
        empty = LibraryHits(how.describe(query), (), (), (), found.plan, thumbnails)
        answers.append(_choose(store, hits, how, empty))
    return answers


def _choose(store: Store, hits: Hits, how: HowToFind, empty: LibraryHits) -> LibraryHits:
    """Fill `empty` with the hits of one query."""
    order = np.arange(len(hits.ids))
    if how.diversity and len(order):
        vectors = _vectors(store, hits.ids)
        order = choose_diverse(hits.scores, vectors, how.last, how.diversity)
    order = order[how.offset : how.last]
    rows = [
        {"id": hits.ids[i], **{name: values[i] for name, values in hits.columns.items()}}
        for i in order
    ]
    scores, ranks = [float(hits.scores[i]) for i in order], [int(i) + 1 for i in order]
    return replace(empty, rows=rows, scores=scores, ranks=ranks)


def _vectors(store: Store, ids: tuple[str, ...]) -> NDArray[np.float32]:
    """(N, E) of these rows, in this order."""
    found: dict[str, NDArray[np.float32]] = {}
    for block in store.read(ids=ids, columns=[], vectors=True):
        assert block.vectors is not None
        found |= zip(block.ids, block.vectors, strict=True)
    nothing = np.zeros(store.schema.width, dtype=np.float32)  # of a row that was just deleted
    return np.stack([found.get(id_, nothing) for id_ in ids])


def choose_diverse(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], k: int, diversity: float
) -> NDArray[np.int64]:
    """Maximal marginal relevance: near the query, and unlike what was chosen before.

    Each step takes the row with the largest (1 - d) * score - d * (largest cosine with a chosen
    row). Both are first scaled to 0 to 1 over all rows, because the cosines of words with pictures
    and those of two pictures have other ranges. Source: Carbonell and Goldstein 1998, "The use of
    MMR", with lambda = 1 - d; the scaling is ours.

    Args:
        scores: (N,) cosines with the query.
        vectors: (N, E) unit vectors.
        k: rows to choose.
        diversity: d, from 0 to 1.

    Returns:
        (K,) numbers of the rows, in the order in which they were chosen.
    """
    if not len(scores):
        return np.array([], dtype=np.int64)
    near = _scale(vectors @ vectors.T)
    wanted = (1 - diversity) * _scale(scores)
    likeness = np.zeros(len(scores), dtype=np.float32)  # to the nearest chosen row
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        best = int((wanted - diversity * likeness).argmax())
        chosen.append(best)
        wanted[best] = -np.inf
        likeness = np.maximum(likeness, near[best])
    return np.array(chosen, dtype=np.int64)


def _scale(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """From 0, the smallest value, to 1, the largest one; 0 if all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)
