"""Which rows must be scored again so that the answer of a server is exact.

A server sums products in float32, in an order of its own, so its scores are near the exact ones.
Every row whose score is within the error of the K-th best can be among the K best. E vector size.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.answers import Hits, best, exact_scores

Key = TypeVar("Key")
SPARE = 32  # rows beyond K that are asked for at first
GROWTH = 4  # times as many rows if those were too few
BLOCK = 1000  # rows read at once


def score_margin(width: int) -> float:
    """How far scores of two rows can seem apart that are equal in fact.

    An inner product of E products in float32 is off by at most E u |x| |y|, whatever the order of
    the sum, where u is 2^-24 (Higham 2002, Accuracy and Stability, section 3.1). The four allows
    for two rows, for lengths that are nearly 1, and for the rounding of the exact score.
    """
    return 4 * (width + 4) * 2.0**-24


def find_candidates(
    fetch: Callable[[int], Sequence[tuple[Key, float]]], k: int, margin: float
) -> list[Key]:
    """Keys of all rows that can be among the `k` best.

    Args:
        fetch: gives the best rows by the scores of the server, at most as many as its argument.
        k: hits.
        margin: of `score_margin`.
    """
    limit = k + SPARE
    while True:
        found = fetch(limit)
        complete = len(found) < limit
        least = -np.inf if len(found) < k else found[k - 1][1] - margin
        if complete or found[-1][1] < least:
            return [key for key, score in found if score >= least]
        limit *= GROWTH


def rank_exactly(
    blocks: Iterable[tuple[Sequence[str], NDArray[np.float32]]], query: NDArray[np.float32], k: int
) -> tuple[Hits, int]:
    """The `k` best of rows that come in blocks of ids and vectors, and how many rows there were."""
    ids: list[str] = []
    scores = [np.zeros(0, dtype=np.float32)]
    for names, vectors in blocks:
        ids += names
        scores.append(exact_scores(vectors, query))
    return best(ids, np.concatenate(scores), k), len(ids)
