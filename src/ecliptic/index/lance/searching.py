"""Searches a view: codes tell which rows may be the best, exact scores which are.

N rows, E vector size, Q queries.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ecliptic.index.answers import Hits, SearchPlan, SearchResult, best, exact_scores
from ecliptic.index.codes.coding import code_queries
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.filters.tree import Filter
from ecliptic.index.lance.conversion import matrix
from ecliptic.index.lance.view import View

_SCORES = 1 << 24  # scores of codes, or of a scan, that are held at once: 64 MB
_MORE = 30  # rows beyond k whose exact score is computed
_ROUNDING = 1e-5  # of a cosine in float32
_MOST_TIES = 1 << 14  # rows with one score at the end of the hits that are told apart by their ids


def search_view(
    view: View,
    queries: NDArray[np.float32],
    k: int,
    tree: Filter | None,
    columns: tuple[str, ...],
    *,
    exact: bool,
) -> SearchResult:
    """The K best rows for each of (Q, E) queries."""
    mask = None if tree is None else view.mask(tree)
    candidates = view.rows if mask is None else int(mask.sum())
    at_once = max(1, _SCORES // max(view.rows, 1))
    hits: list[Hits] = []
    scored = 0
    for start in range(0, len(queries), at_once):
        some = queries[start : start + at_once]
        if exact:
            scores, margin, wanted = _scan(view, some, mask), _ROUNDING, k
        else:
            scores, margin, wanted = view.score(code_queries(torch.from_numpy(some)), mask), 0, 0
            wanted = k + max(_MORE, k // 2)
        rows = [_choose(row, wanted, margin) for row in scores]
        positions = rows if exact else [view.positions(row) for row in rows]
        scored += view.rows * len(some) if exact else sum(map(len, positions))
        hits += _finish(view, some, positions, k, columns)
    return SearchResult(tuple(hits), SearchPlan("scan" if exact else "map", candidates, scored))


def _scan(view: View, queries: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> torch.Tensor:
    """(Q, N) cosines in float32 of all rows by position; minus infinity where `mask` is false."""
    scores = torch.empty(len(queries), view.rows)
    start, given = 0, torch.from_numpy(queries)
    for batch in view.dataset.scanner(columns=[VECTOR], batch_size=8192).to_batches():
        vectors = torch.from_numpy(matrix(batch[VECTOR]).copy())
        scores[:, start : start + len(vectors)] = given @ vectors.T
        start += len(vectors)
    return scores if mask is None else scores.masked_fill_(~torch.from_numpy(mask), -torch.inf)


def _choose(scores: torch.Tensor, wanted: int, margin: float) -> NDArray[np.int64]:
    """Numbers, ascending, of the `wanted` best scores and of those that equal the last of them."""
    values = scores.topk(min(wanted, len(scores)), sorted=True).values
    values = values[values > -torch.inf]
    if not len(values):
        return np.empty(0, dtype=np.int64)
    found = (scores >= values[-1] - margin).nonzero()[:, 0]
    if len(found) > len(values) + _MOST_TIES:  # thousands of copies of one picture
        found = scores.topk(len(values) + _MOST_TIES).indices.sort().values
    return found.numpy()


def _finish(
    view: View,
    queries: NDArray[np.float32],
    positions: list[NDArray[np.int64]],
    k: int,
    columns: tuple[str, ...],
) -> list[Hits]:
    """The hits among the rows at these positions, by their exact scores."""
    every = np.unique(np.concatenate(positions))
    if not len(every):
        return [best((), np.empty(0, np.float32), k, {name: [] for name in columns})] * len(queries)
    table = view.take(every, [VECTOR])
    ids, vectors = np.array(table[ID].to_pylist(), dtype=object), matrix(table[VECTOR])
    hits = []
    for query, own in zip(queries, positions, strict=True):
        rows = np.searchsorted(every, own)
        chosen = best(ids[rows].tolist(), exact_scores(vectors[rows], query), k)
        hits.append(chosen)
    return _with_columns(view, hits, dict(zip(ids.tolist(), every.tolist(), strict=True)), columns)


def _with_columns(
    view: View, hits: list[Hits], places: dict[str, int], columns: tuple[str, ...]
) -> list[Hits]:
    """Add the columns that were asked for; `places` are the positions of the ids."""
    if not columns:
        return hits
    wanted = sorted({places[id_] for hit in hits for id_ in hit.ids})
    table = view.take(np.array(wanted), list(columns))
    values = {name: table[name].to_pylist() for name in columns}
    row = {place: number for number, place in enumerate(wanted)}
    found = []
    for hit in hits:
        rows = [row[places[id_]] for id_ in hit.ids]
        own = {name: [column[i] for i in rows] for name, column in values.items()}
        found.append(Hits(hit.ids, hit.scores, own))
    return found
