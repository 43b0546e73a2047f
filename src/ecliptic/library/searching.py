"""Answers a query from the store of a library, with diversity and pages.

K hits, N candidates, E vector size.
"""

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import check_count, check_range
from ecliptic.index import Filter, Store
from ecliptic.library.hits import FindThumbnails, LibraryHits

_POOL, _LEAST = 5, 100  # candidates of a diverse search: 5 K, at least 100
_MOST = 2000  # candidates of a diverse search


def find_hits(
    store: Store,
    vector: NDArray[np.float32],
    asked: str,
    k: int,
    where: Filter | str | None,
    thumbnails: FindThumbnails,
    *,
    offset: int,
    diversity: float,
    exact: bool,
) -> LibraryHits:
    """The hits from `offset` to `offset + k`; see `Library.search`."""
    check_count("k", k)
    check_count("offset", offset, least=0)
    check_range("diversity", diversity, 0.0, 1.0)
    wanted = offset + k
    pool = min(_MOST, max(_LEAST, _POOL * wanted)) if diversity else wanted
    names = list(store.schema.columns)
    found = store.search(vector, max(pool, wanted), where, names, exact=exact)
    hits = found.hits[0]
    order = np.arange(len(hits.ids))
    if diversity and len(order):
        order = choose_diverse(hits.scores, _vectors(store, hits.ids), wanted, diversity)
    order = order[offset:wanted]
    rows = [
        {"id": hits.ids[i], **{name: values[i] for name, values in hits.columns.items()}}
        for i in order
    ]
    scores = [float(hits.scores[i]) for i in order]
    return LibraryHits(asked, rows, scores, offset, found.plan, thumbnails)


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
    row). Source: Carbonell and Goldstein 1998, "The use of MMR", with lambda = 1 - d.

    Args:
        scores: (N,) cosines with the query.
        vectors: (N, E) unit vectors.
        k: rows to choose.
        diversity: d, from 0 to 1.

    Returns:
        (K,) numbers of the rows, in the order in which they were chosen.
    """
    nearest = np.full(len(scores), -1.0, dtype=np.float32)  # to a chosen row
    left = np.ones(len(scores), dtype=np.bool_)
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        likeness = nearest if chosen else np.zeros_like(nearest)
        value = np.where(left, (1 - diversity) * scores - diversity * likeness, -np.inf)
        best = int(value.argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return np.array(chosen, dtype=np.int64)
