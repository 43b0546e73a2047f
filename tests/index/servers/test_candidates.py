"""Rows that a server scores in float32 are ranked as if all were scored exactly."""

from typing import Any

import numpy as np
from hypothesis import given, settings, strategies as st

from ecliptic.index.answers import best, exact_scores
from ecliptic.index.servers.candidates import (
    SPARE,
    find_candidates,
    rank_exactly,
    score_margin,
)


def _unit(draw: np.random.Generator, rows: int, width: int) -> Any:
    vectors = draw.normal(size=(rows, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), rows=st.integers(1, 300), k=st.integers(1, 40))
def test_the_answer_is_exact_whatever_the_errors_within_the_margin(
    seed: int, rows: int, k: int
) -> None:
    draw, width = np.random.default_rng(seed), 16
    vectors, query = _unit(draw, rows, width), _unit(draw, 1, width)[0]
    vectors[draw.integers(0, rows, rows // 2)] = vectors[0]  # ties
    ids = [f"{name}" for name in draw.permutation(rows)]
    margin = score_margin(width)
    wrong = exact_scores(vectors, query) + draw.uniform(-margin / 2, margin / 2, rows) * 0.99
    order = np.argsort(-wrong, kind="stable")
    asked = []

    def fetch(limit: int) -> list[tuple[int, float]]:
        asked.append(limit)
        return [(int(row), float(wrong[row])) for row in order[:limit]]

    keys = find_candidates(fetch, k, margin)
    blocks = [([ids[row] for row in keys[at : at + 7]], vectors[keys[at : at + 7]])
              for at in range(0, len(keys), 7)]  # fmt: skip
    hits, scored = rank_exactly(blocks, query, k)
    expected = best(ids, exact_scores(vectors, query), k)
    assert hits.ids == expected.ids
    assert hits.scores.tobytes() == expected.scores.tobytes()
    assert scored == len(keys)
    assert asked[0] == k + SPARE


def test_the_margin_holds_for_sums_in_any_order() -> None:
    draw = np.random.default_rng(0)
    for width in (3, 512, 4096):
        vectors, query = _unit(draw, 200, width), _unit(draw, 1, width)[0]
        exact = vectors.astype(np.float64) @ query.astype(np.float64)
        one_by_one = np.zeros(200, dtype=np.float32)
        for place in np.argsort(-np.abs(query)):
            one_by_one += vectors[:, place] * query[place]
        assert 2 * np.abs(one_by_one - exact).max() < score_margin(width)


def test_nothing_is_near_in_an_empty_store() -> None:
    assert find_candidates(lambda limit: [], 5, 0.1) == []
    hits, scored = rank_exactly([], np.ones(2, dtype=np.float32), 5)
    assert (hits.ids, len(hits.scores), scored) == ((), 0, 0)
