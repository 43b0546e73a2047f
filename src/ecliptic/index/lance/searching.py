"""Searches a view: codes tell which rows may be the best, exact scores which are.

N rows, E vector size, Q queries.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ecliptic.index.answers import Hits, SearchPlan, SearchResult, best, exact_scores
from ecliptic.index.codes.coding import code_queries
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.lance.conversion import matrix
from ecliptic.index.lance.view import View
from ecliptic.index.requests import SearchRequest

_SCORES = 1 << 24  # scores of codes, or of a scan, that are held at once: 64 MB
_MORE = 30  # rows beyond k whose exact score is computed
_MOST_OF_LISTS = 1000  # hits; for more, the whole map is looked at
_ROUNDING = 1e-5  # of a cosine in float32
_MOST_TIES = 1 << 14  # rows beyond the hits that are looked at, to tell equal scores by their ids
_CODED = 0.01  # beyond the difference of the scores of equal vectors in two files of codes


def search_view(view: View, wanted: SearchRequest) -> SearchResult:
    """The K best rows for each of the (Q, E) queries."""
    mask = None if wanted.tree is None else view.mask(wanted.tree)
    candidates = view.rows if mask is None else int(mask.sum())
    at_once = max(1, _SCORES // max(view.rows, 1))
    hits: list[Hits] = []
    scored, probed = 0, 1.0
    for start in range(0, len(wanted.queries), at_once):
        some = wanted.queries[start : start + at_once]
        if wanted.exact:
            scores = _scan(view, some, mask)
            found = _finish(
                view, some, [_choose(row, wanted.k, _ROUNDING) for row in scores], wanted.k
            )
            scored += view.rows * len(some)
        else:
            near = len(wanted.queries) == 1 and mask is None and wanted.k <= _MOST_OF_LISTS
            scores, probed = _score(view, some, mask, wanted.k, near=near)
            found, looked_at = _search_codes(view, some, scores, wanted.k)
            scored += looked_at
        hits += _with_columns(view, found, wanted.columns)
    plan = SearchPlan("scan" if wanted.exact else "map", candidates, scored, probed)
    return SearchResult(tuple(hits), plan)


def _score(
    view: View,
    queries: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    k: int,
    *,
    near: bool,
) -> tuple[torch.Tensor, float]:
    """(Q, n) scores by the codes, and the part of the rows that was looked at.

    Only one query without a filter, for few hits, looks into lists: several together, or a filter,
    need most of the lists.
    """
    coded = code_queries(torch.from_numpy(queries))
    if view.lists is not None and near:
        scores, probed = view.score_near(coded)
        if int((scores > -torch.inf).sum()) >= k + _MORE:
            return scores, probed
    return view.score(coded, mask), 1.0


@dataclass(frozen=True)
class _Found:
    """The hits of one query."""

    hits: Hits
    places: dict[str, int]  # positions of rows by their ids
    crowded: bool  # all rows beyond the hits that were looked at have the score of the last hit


def _search_codes(
    view: View, queries: NDArray[np.float32], scores: torch.Tensor, k: int
) -> tuple[list[_Found], int]:
    """The best rows by (Q, n) `scores` of codes, and the number of rows that were looked at."""
    wanted = k + max(_MORE, k // 2)
    chosen = [view.positions(_choose(row, wanted, 0)) for row in scores]
    found = _finish(view, queries, chosen, k)
    crowded = [number for number, one in enumerate(found) if one.crowded]
    if crowded:  # more rows may have this score, in files whose codes are a little worse
        wider = [view.positions(_choose(scores[number], k, _CODED)) for number in crowded]
        again = _finish(view, queries[crowded], wider, k)
        for number, one in zip(crowded, again, strict=True):
            found[number] = one
        chosen += wider
    return found, sum(map(len, chosen))


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
    best_ones = scores.topk(min(wanted + 1, len(scores)), sorted=True)
    values = best_ones.values[best_ones.values > -torch.inf]
    if not len(values):
        return np.empty(0, dtype=np.int64)
    if len(values) <= wanted:
        return best_ones.indices[: len(values)].sort().values.numpy()
    if not margin and values[wanted] < values[wanted - 1]:  # the usual case: no second pass
        return best_ones.indices[:wanted].sort().values.numpy()
    values = values[:wanted]
    found = (scores >= values[-1] - margin).nonzero()[:, 0]
    if len(found) > len(values) + _MOST_TIES:  # thousands of copies of one picture
        found = scores.topk(len(values) + _MOST_TIES).indices.sort().values
    return found.numpy()


def _finish(
    view: View, queries: NDArray[np.float32], positions: list[NDArray[np.int64]], k: int
) -> list[_Found]:
    """The hits among the rows at these positions, by their exact scores."""
    every = np.unique(np.concatenate(positions))
    if not len(every):
        return [_Found(best((), np.empty(0, np.float32), k), {}, False)] * len(queries)
    table = view.take(every, [VECTOR])
    ids, vectors = np.array(table[ID].to_pylist(), dtype=object), matrix(table[VECTOR])
    places = dict(zip(ids.tolist(), every.tolist(), strict=True))
    found = []
    for query, own in zip(queries, positions, strict=True):
        rows = np.searchsorted(every, own)
        scores = exact_scores(vectors[rows], query)
        hits = best(ids[rows].tolist(), scores, k)
        crowded = len(own) > k and bool(scores.min() == hits.scores[-1])
        found.append(_Found(hits, places, crowded))
    return found


def _with_columns(view: View, found: list[_Found], columns: tuple[str, ...]) -> list[Hits]:
    """The hits with the columns that were asked for."""
    if not columns:
        return [one.hits for one in found]
    wanted = sorted({one.places[id_] for one in found for id_ in one.hits.ids})
    table = view.take(np.array(wanted, dtype=np.int64), list(columns))
    values = {name: table[name].to_pylist() for name in columns}
    row = {place: number for number, place in enumerate(wanted)}
    hits = []
    for one in found:
        rows = [row[one.places[id_]] for id_ in one.hits.ids]
        own = {name: [column[i] for i in rows] for name, column in values.items()}
        hits.append(Hits(one.hits.ids, one.hits.scores, own))
    return hits
