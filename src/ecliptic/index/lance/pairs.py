"""Pairs of rows that are nearer to each other than a threshold.

Codes tell which pairs may be; their exact cosines decide. E vector size, B rows of a block.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ecliptic.index.answers import NearPairs
from ecliptic.index.codes.coding import CodedQueries, code_queries
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.lance.conversion import matrix
from ecliptic.index.lance.view import View

_SCORES = 1 << 24  # scores that are held at once: 64 MB
_MOST_ROWS = 1024  # of a block
_MARGIN = 2.0  # steps of both codes; the error of a score has a deviation of 0.3 of them


def near_pairs(view: View, threshold: float) -> Iterator[NearPairs]:
    """All pairs with a cosine of at least `threshold`, each once."""
    rows = max(1, min(_MOST_ROWS, _SCORES // max(view.rows, 1)))
    places = view.every_place()  # (n,) positions of the codes; -1 for deleted rows
    start = 0
    for batch in view.dataset.scanner(columns=[VECTOR], batch_size=rows).to_batches():
        vectors = matrix(batch[VECTOR])
        for first in range(0, len(vectors), rows):
            some = vectors[first : first + rows]
            left, right = _candidates(view, some, places, start + first, threshold)
            if len(left):
                yield from _decide(view, left + start + first, right, threshold)
        start += len(vectors)


def _candidates(
    view: View,
    vectors: NDArray[np.float32],
    places: NDArray[np.int64],
    start: int,
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the block, and positions behind them, whose cosine may reach the threshold."""
    queries = code_queries(torch.from_numpy(vectors.copy()))
    scores = view.score(queries, None)
    found = (scores >= threshold - _margin(view, queries)).nonzero().numpy()
    left, right = found[:, 0], places[found[:, 1]]
    behind = right > left + start  # each pair once, and no row with itself
    return left[behind], right[behind]


def _margin(view: View, queries: CodedQueries) -> float:
    """How far the score of a code can be from the cosine."""
    steps = max(float(segment.codes.scales.max()) for segment in view.segments if segment.live)
    return _MARGIN * (steps + float(queries.scales.max()))


def _decide(
    view: View,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    threshold: float,
) -> Iterator[NearPairs]:
    """The pairs whose exact cosine reaches the threshold, some at a time."""
    for first in range(0, len(left), _MOST_ROWS):
        some, others = left[first : first + _MOST_ROWS], right[first : first + _MOST_ROWS]
        positions, which = np.unique(np.concatenate([some, others]), return_inverse=True)
        table = view.take(positions, [VECTOR])
        ids, exact = np.array(table[ID].to_pylist(), dtype=object), matrix(table[VECTOR])
        a, b = which[: len(some)], which[len(some) :]
        products = exact[a].astype(np.float64) * exact[b].astype(np.float64)
        scores = products.sum(1).astype(np.float32)
        keep = scores >= np.float32(threshold)
        if keep.any():
            yield NearPairs(tuple(ids[a[keep]]), tuple(ids[b[keep]]), scores[keep])
