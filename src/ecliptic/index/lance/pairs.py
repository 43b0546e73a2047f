"""Pairs of rows that are nearer to each other than a threshold.

Codes tell which pairs may be; their exact cosines decide. E vector size, N rows, B rows of a block.
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
_PAIRS = 1 << 19  # pairs that are held at once, unless one row has more
_MOST_ROWS = 1024  # of a block
_AT_ONCE = 4096  # rows that are read together
_VALUES = 1 << 22  # of the products of pairs that are held at once: 32 MB
_MARGIN = 2.0  # steps of both codes; the error of a score has a deviation of 0.3 of them


def near_pairs(view: View, threshold: float, mask: NDArray[np.bool_]) -> Iterator[NearPairs]:
    """All pairs of rows with a cosine of at least `threshold`, each once.

    Args:
        view: of the table.
        threshold: of the cosine.
        mask: (N,) which rows count, by position.
    """
    rows = max(1, min(_MOST_ROWS, _SCORES // max(view.rows, 1)))
    places = view.every_place()  # (n,) positions of the codes; -1 for deleted rows
    places[places >= 0] = np.where(mask, np.arange(view.rows), -1)[places[places >= 0]]
    start = 0
    for batch in view.dataset.scanner(columns=[ID, VECTOR], batch_size=rows).to_batches():
        ids, vectors = np.array(batch[ID].to_pylist(), dtype=object), matrix(batch[VECTOR])
        for first in range(0, len(ids), rows):
            keep = np.flatnonzero(mask[start + first : start + first + rows][: len(ids) - first])
            positions = start + first + keep
            block = ids[first + keep], vectors[first + keep]
            for left, right in _candidates(view, block[1], positions, places, threshold):
                yield from _decide(view, block, left, right, threshold)
        start += len(ids)


def _candidates(
    view: View,
    vectors: NDArray[np.float32],
    positions: NDArray[np.int64],
    places: NDArray[np.int64],
    threshold: float,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of the block, and positions behind theirs, whose cosine may reach the threshold."""
    if not len(vectors):
        return
    queries = code_queries(torch.from_numpy(vectors))
    near = view.score(queries, None).numpy() >= threshold - _margin(view, queries)
    near &= places > positions[:, None]  # each pair once, and no row with itself
    parts = np.cumsum(np.count_nonzero(near, axis=1)) // _PAIRS
    for part in np.unique(parts):
        first, end = np.searchsorted(parts, (part, part + 1))
        left, right = near[first:end].nonzero()
        if len(left):
            yield left + first, places[right]


def _margin(view: View, queries: CodedQueries) -> float:
    """How far the score of a code can be from the cosine."""
    steps = max(float(segment.codes.scales.max()) for segment in view.segments if segment.live)
    return _MARGIN * (steps + float(queries.scales.max()))


def _decide(
    view: View,
    block: tuple[NDArray[np.object_], NDArray[np.float32]],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    threshold: float,
) -> Iterator[NearPairs]:
    """The pairs whose exact cosine reaches the threshold, some at a time.

    Args:
        view: of the table.
        block: ids and (B, E) vectors.
        left: numbers of rows of the block.
        right: positions of the other rows.
        threshold: of the cosine.
    """
    ids, vectors = block
    order = np.argsort(right, kind="stable")
    left, right = left[order], right[order]
    positions, which = np.unique(right, return_inverse=True)
    at_once = max(1, _VALUES // vectors.shape[1])
    for first in range(0, len(positions), _AT_ONCE):
        table = view.take(positions[first : first + _AT_ONCE], [VECTOR])
        other_ids, others = np.array(table[ID].to_pylist(), dtype=object), matrix(table[VECTOR])
        low, high = np.searchsorted(which, (first, first + _AT_ONCE))
        for at in range(low, high, at_once):
            a, b = left[at : min(at + at_once, high)], which[at : min(at + at_once, high)] - first
            products = vectors[a].astype(np.float64) * others[b].astype(np.float64)
            scores = products.sum(1).astype(np.float32)
            keep = scores >= np.float32(threshold)
            if keep.any():
                yield NearPairs(tuple(ids[a[keep]]), tuple(other_ids[b[keep]]), scores[keep])
