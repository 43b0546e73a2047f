"""Cosines, probabilities and ensembles equal their formulas in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from ecliptic import scoring
from ecliptic.errors import NumericalError, ShapeError, SpaceMismatchError
from ecliptic.scoring.similarity import STRIP

A = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
B = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def test_cosines_follow_the_formula() -> None:
    a, b = A.double().numpy(), B.double().numpy()
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(scoring.cosine(A, B), a @ b.T / norms, atol=1e-6)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_cosines_do_not_depend_on_length(left: float, right: float) -> None:
    torch.testing.assert_close(scoring.cosine(A * left, B * right), scoring.cosine(A, B))


def test_a_vector_is_one_with_itself_and_zero_is_like_nothing() -> None:
    torch.testing.assert_close(scoring.cosine(A, A).diagonal(), torch.ones(3))
    assert scoring.cosine(torch.zeros(1, 8), B).tolist() == [[0.0] * 5]
    assert scoring.cosine(A[:0], B).shape == (0, 5)


@pytest.mark.parametrize(("a", "b"), [(A, B[:, :7]), (A[0], B), (A, B[0])])
def test_vectors_of_other_sizes_are_refused(a: torch.Tensor, b: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="same model"):
        scoring.cosine(a, b)


class Stored:
    def __init__(self, vectors: Any, space: str) -> None:
        self.vectors, self.space, self.model = vectors, space, f"model {space}"


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, "read-only", "stored"])
def test_tensors_arrays_and_stored_vectors_may_be_mixed(kind: Any) -> None:
    array: Any = B.numpy().copy()
    if kind == "read-only":
        array.flags.writeable = False
    elif kind == "stored":
        array = Stored(array, "x")
    else:
        array = array.astype(kind)
    wanted, near = scoring.cosine(A, B), {"rtol": 0, "atol": 2e-3, "check_dtype": False}
    torch.testing.assert_close(scoring.cosine(A, array), wanted, **near)
    torch.testing.assert_close(scoring.cosine(array, A), wanted.T, **near)
    assert scoring.cosine(array, array).shape == (5, 5)
    whole = scoring.cosine(np.eye(8, dtype=np.int64), torch.eye(8, dtype=torch.int32))
    assert torch.equal(whole, torch.eye(8))


def test_stored_vectors_of_two_spaces_are_refused() -> None:
    with pytest.raises(SpaceMismatchError, match=r"of model x \(x\) and of model y \(y\)"):
        scoring.cosine(Stored(A.numpy(), "x"), Stored(B.numpy(), "y"))


@pytest.mark.parametrize(
    "rows", [["a cat"], None, np.array([["a"]]), np.array([[1j]]), A * 1j, [[1.0]]]
)
def test_what_are_no_vectors_is_refused(rows: Any) -> None:
    with pytest.raises(ShapeError, match="encode texts and images first"):
        scoring.cosine(rows, A)


def test_probabilities_are_a_softmax_over_labels() -> None:
    cosines = scoring.cosine(A, B)
    wanted = np.exp(100 * cosines.double().numpy())
    wanted /= wanted.sum(axis=1, keepdims=True)
    found = scoring.probabilities(cosines, 100)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(3))


def test_probabilities_survive_any_scale() -> None:
    found = scoring.probabilities(torch.tensor([[1.0, -1.0, 0.5]]), 1e6)
    assert found.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_damaged_temperature_is_named(scale: float) -> None:
    with pytest.raises(NumericalError, match=f"is {scale}, so there are no probabilities"):
        scoring.probabilities(scoring.cosine(A, B), scale)


def test_every_prompt_of_an_ensemble_weighs_the_same() -> None:
    """Prompts are normalised before the mean, so a long vector has no larger weight."""
    prompts = torch.tensor([[[3.0, 0.0], [0.0, 0.1]], [[2.0, 0.0], [2.0, 0.0]]])
    found = scoring.ensemble(prompts)
    torch.testing.assert_close(found, torch.tensor([[0.5**0.5, 0.5**0.5], [1.0, 0.0]]))


def test_an_ensemble_of_one_prompt_is_that_prompt() -> None:
    found = scoring.ensemble(A[:, None])
    torch.testing.assert_close(found, A / A.norm(dim=1, keepdim=True))


def test_an_ensemble_needs_prompts_by_label() -> None:
    with pytest.raises(ShapeError, match="labels, prompts, size"):
        scoring.ensemble(A)


# --- ranks -------------------------------------------------------------------------------------


def plain_ranks(queries: torch.Tensor, items: torch.Tensor, pairs: list[list[int]]) -> list[int]:
    """From all cosines at once, query by query."""
    z = scoring.cosine(queries, items)
    found = []
    for query in range(len(queries)):
        own = {item for of, item in pairs if of == query}
        best = max(float(z[query, item]) for item in own)
        rest = [float(z[query, item]) for item in range(len(items)) if item not in own]
        found.append(1 + sum(value >= best for value in rest))
    return found


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_ranks_are_those_of_the_whole_matrix(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecliptic.scoring.similarity.STRIP", 1)
    monkeypatch.setattr("ecliptic.scoring.similarity.FEWEST_ROWS", rows)
    generator = torch.Generator().manual_seed(5)
    queries, items = (torch.randn(n, 4, generator=generator) for n in (9, 14))
    items[3] = items[8] * 2  # the same direction
    pairs = [[8, 0], [0, 3], [1, 8], [2, 8], [2, 5], [2, 6]] + [[q, q + 4] for q in range(3, 9)]
    found = scoring.ranks(queries, items, torch.tensor(pairs))
    assert found.tolist() == plain_ranks(queries, items, pairs)
    assert scoring.ranks(queries, items, torch.tensor(pairs), block=3).tolist() == found.tolist()
    firsts = dict(reversed(pairs))
    targets = torch.tensor([firsts[query] for query in range(len(queries))])
    one_each = [[query, firsts[query]] for query in range(len(queries))]
    alone = scoring.ranks(queries, items, targets)
    assert alone.tolist() == plain_ranks(queries, items, one_each)


def test_ties_count_against_the_target_but_own_items_never() -> None:
    query, items = torch.ones(1, 2), torch.ones(5, 2)
    assert scoring.ranks(query, items, torch.tensor([[0, 4]])).tolist() == [5]
    assert scoring.ranks(query, items, torch.tensor([[0, 4], [0, 1]])).tolist() == [4]
    assert scoring.ranks(query, items, torch.tensor([[0, i] for i in range(5)])).tolist() == [1]


@pytest.mark.parametrize("broken", ["queries", "items"])
def test_vectors_that_are_not_finite_rank_last(broken: str) -> None:
    vectors = {"queries": torch.eye(3), "items": torch.eye(3)}
    vectors[broken] = torch.full((3, 3), float("nan"))
    pairs = torch.tensor([[0, 0], [1, 1], [2, 2]])
    assert scoring.ranks(vectors["queries"], vectors["items"], pairs).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ([[0, 0], [1, 5]], "item beyond the 5"),
        ([[0, 0], [3, 1]], "query beyond the 3"),
        ([[0, -1]], "item beyond"),
        ([[0, 0], [0, 1]], "2 of 3 queries have no item"),
        ([0, 1], r"\(P, 2\)"),
        ([[0.0, 0.0]], "integers"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(pairs: list[Any], match: str) -> None:
    with pytest.raises(ShapeError, match=match):
        scoring.ranks(A, B, torch.tensor(pairs))


def test_ranks_hold_no_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def measured(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        sizes.append(len(a) * len(b))
        return cosine(a, b)

    cosine = scoring.cosine
    monkeypatch.setattr("ecliptic.scoring.similarity.cosine", measured)
    vectors = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    found = scoring.ranks(vectors, vectors, torch.arange(5000)[:, None].expand(-1, 2))
    assert max(sizes) <= STRIP < 5000 * 5000
    assert sum(sizes) == 5000 * 5000
    assert float(found.double().mean()) < 50


def test_ranks_of_nothing_are_none() -> None:
    assert scoring.ranks(A[:0], B, torch.empty(0, 2, dtype=torch.int64)).shape == (0,)
