"""Measures of sets equal their formulas over all pairs, and the published numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from ecliptic import scoring
from ecliptic.errors import ConfigError, ShapeError

RNG = np.random.default_rng(9)
A, B = (torch.from_numpy(RNG.normal(size=(n, 6))) for n in (30, 21))


def golden() -> tuple[Any, Any]:
    """The two sets of the published number."""
    g = np.random.default_rng(7)
    x, y = g.normal(size=(64, 32)), g.normal(size=(48, 32)) + 0.3
    return tuple(v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))  # type: ignore[return-value]


def test_cmmd_equals_the_published_number() -> None:
    x, y = golden()
    assert scoring.cmmd(x, y, unbiased=False) == pytest.approx(1.463657, abs=1e-6)
    rule = 10 * ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    assert rule == pytest.approx(1.476183, abs=1e-6)
    assert scoring.modality_gap(x, y) == pytest.approx((rule / 10) ** 0.5)
    assert scoring.cmmd(5 * x, 0.1 * y, unbiased=False) == pytest.approx(1.463657, abs=1e-6)


def test_the_unbiased_cmmd_leaves_out_each_vectors_pair_with_itself() -> None:
    x, y = golden()
    kernels = [np.exp(-((a[:, None] - b) ** 2).sum(-1) / 200) for a, b in ((x, x), (y, y), (x, y))]
    own = [(k.sum() - len(k)) / len(k) / (len(k) - 1) for k in kernels[:2]]
    peer = 1000 * (sum(own) - 2 * kernels[2].mean())
    assert scoring.cmmd(x, y) == pytest.approx(peer, abs=1e-8)


def test_two_samples_of_one_distribution_are_no_distance_apart() -> None:
    draws = np.random.default_rng(0).normal(size=(40, 2, 50, 16))
    unbiased = [scoring.cmmd(x, y) for x, y in draws]
    published = [scoring.cmmd(x, y, unbiased=False) for x, y in draws]
    error = np.std(unbiased) / np.sqrt(40)
    assert abs(np.mean(unbiased)) < 3 * error
    assert min(published) > 0
    assert np.mean(published) > 10 * error


def test_the_test_of_two_sets_is_wrong_as_rarely_as_it_says() -> None:
    draws = np.random.default_rng(1).normal(size=(200, 2, 20, 8))
    p = np.array([scoring.cmmd_test(x, y, permutations=99) for x, y in draws])
    assert abs(np.mean(p <= 0.1) - 0.1) < 0.06
    assert abs(np.mean(p) - 0.5) < 0.07
    x, y = golden()
    assert scoring.cmmd_test(x, y) == 1 / 1000
    many = np.random.default_rng(2).normal(size=(2, 1100, 4))
    assert scoring.cmmd_test(many[0], many[1] + 0.5, permutations=19) == 1 / 20


def draw_pairs(rng: Any, rows: int, shift: float) -> Any:
    """Two sets whose row i shares its content, (2, N, E)."""
    content = rng.normal(size=(rows, 16))
    return [content + 0.5 * rng.normal(size=(rows, 16)) + s for s in (0.0, shift)]


def test_the_cmmd_of_pairs_leaves_out_those_of_one_content() -> None:
    x, y = (v / np.linalg.norm(v, axis=1)[:, None] for v in draw_pairs(RNG, 30, 0.3))
    kernels = [np.exp(-((a[:, None] - b) ** 2).sum(-1) / 200) for a, b in ((x, x), (y, y), (x, y))]
    own = [(k.sum() - np.trace(k)) / 30 / 29 for k in kernels]
    assert scoring.cmmd(x, y, paired=True) == pytest.approx(1000 * (own[0] + own[1] - 2 * own[2]))
    rng = np.random.default_rng(4)
    draws = [draw_pairs(rng, 40, 0.0) for _ in range(60)]
    paired = [scoring.cmmd(*one, paired=True) for one in draws]
    error = np.std(paired) / np.sqrt(60)
    assert abs(np.mean(paired)) < 3 * error
    assert np.mean([scoring.cmmd(*one) for one in draws]) < -10 * error


def test_the_test_of_pairs_exchanges_within_them() -> None:
    """Sets that share their content look too near to a test that mixes all images."""
    rng = np.random.default_rng(5)
    same = [draw_pairs(rng, 40, 0.0) for _ in range(200)]
    shifted = [draw_pairs(rng, 40, 0.15) for _ in range(40)]

    def rejects(some: Any, *, paired: bool) -> float:
        p = [scoring.cmmd_test(*one, permutations=99, paired=paired) for one in some]
        return float(np.mean(np.array(p) <= 0.1))

    assert abs(rejects(same, paired=True) - 0.1) < 0.06
    assert rejects(shifted, paired=True) > 0.7
    assert rejects(shifted, paired=False) < 0.05
    many = draw_pairs(rng, 1100, 0.2)
    assert scoring.cmmd_test(*many, permutations=19, paired=True) == 1 / 20


def test_alignment_and_uniformity_follow_their_formulas() -> None:
    x, y = (torch.nn.functional.normalize(v, dim=-1).numpy() for v in (A, B))
    peer = ((x[:21] - y) ** 2).sum(-1).mean()
    assert scoring.alignment(A[:21], B) == pytest.approx(peer)
    squares = ((x[:, None] - x) ** 2).sum(-1)[np.triu_indices(30, 1)]
    assert scoring.uniformity(A) == pytest.approx(np.log(np.exp(-2 * squares).mean()))
    assert scoring.uniformity(A[:1].expand(5, 6)) == pytest.approx(0, abs=1e-12)
    assert scoring.alignment(A, A) == 0


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [scoring.cmmd(A, B), scoring.uniformity(A), float(scoring.clip_i(A, B).mean())]
    monkeypatch.setattr("ecliptic.scoring.sets._STRIP", 50)
    monkeypatch.setattr("ecliptic.scoring.row_pairs.AT_ONCE", 30)
    parts = [scoring.cmmd(A, B), scoring.uniformity(A), float(scoring.clip_i(A, B).mean())]
    assert parts == pytest.approx(whole, rel=1e-12)


def test_zero_vectors_give_numbers() -> None:
    zero = torch.zeros(4, 6)
    for found in (scoring.cmmd(zero, B), scoring.uniformity(zero), scoring.modality_gap(zero, B)):
        assert np.isfinite(found)
    assert scoring.alignment(zero, A[:4]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: scoring.cmmd(A, B[:1]),
            ConfigError,
            "at least 2 vectors in each set, got 30 and 1",
        ),
        (lambda: scoring.cmmd(A[:0], B, unbiased=False), ConfigError, "at least 1 vectors"),
        (lambda: scoring.cmmd(A, B, sigma=0.0), ConfigError, "sigma must be"),
        (lambda: scoring.cmmd(A, B[:, :5]), ShapeError, "of one model"),
        (lambda: scoring.clip_i(A, B[0]), ShapeError, "of one model"),
        (lambda: scoring.clip_i(A, B[:0]), ConfigError, "no mean of no values"),
        (lambda: scoring.alignment(A, B), ShapeError, "row by row"),
        (lambda: scoring.alignment(A[:0], A[:0]), ConfigError, "no pairs"),
        (lambda: scoring.cmmd_test(A, B[:1]), ConfigError, "at least 2 vectors"),
        (lambda: scoring.cmmd_test(A, B, permutations=0), ConfigError, "permutations must be"),
        (lambda: scoring.cmmd(A, B, paired=True), ShapeError, "30 and 21 vectors are no pairs"),
        (lambda: scoring.cmmd_test(A, B, paired=True), ShapeError, "row i of both must share"),
        (
            lambda: scoring.cmmd(A, A, unbiased=False, paired=True),
            ConfigError,
            "has no form for pairs",
        ),
        (lambda: scoring.uniformity(A[:1]), ConfigError, "at least 2 vectors"),
        (lambda: scoring.uniformity(A, 0.0), ConfigError, "t must be"),
    ],
)
def test_sets_that_cannot_be_measured_are_refused(call: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        call()
