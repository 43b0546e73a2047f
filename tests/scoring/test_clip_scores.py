"""Scores equal their formulas, torchmetrics and the reference numbers, and never give NaN."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ecliptic import scoring
from ecliptic.errors import ConfigError, NumericalError, ShapeError, SpaceMismatchError
from ecliptic.scoring.row_pairs import AT_ONCE
from tests import peers

RNG = np.random.default_rng(4)
I0, I1, T0, T1 = (torch.from_numpy(RNG.normal(size=(7, 12))) for _ in range(4))


def at_cosine(cosines: list[float], start: Tensor) -> Tensor:
    """(N, 3) vectors at these cosines from `start`, a unit vector along an axis."""
    rest = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    c = torch.tensor(cosines, dtype=torch.float64)[:, None]
    return c * start + (1 - c**2).sqrt() * rest


# --- the reference numbers, of cosines that were rounded to 5 digits ----------------------------

COSINES = [0.99919, -0.11064, 0.29146, 0.73495]  # of images and captions
NEAREST = [0.28188, -0.01773, 0.21392, 0.00046]  # of captions and their nearest reference
TEXT = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
TEXTS = TEXT.expand(4, 3)


def test_clip_scores_equal_the_reference_numbers() -> None:
    images = at_cosine(COSINES, TEXT)
    found = scoring.clip_score(images, TEXTS)
    assert found.tolist() == pytest.approx([2.49799, 0, 0.72866, 1.83737], abs=2e-5)
    assert scoring.torchmetrics_clip_score(images, TEXTS) == pytest.approx(47.8741, abs=2e-4)
    clamped = 100 * scoring.pair_cosines(images, TEXTS).clamp(min=0).mean()
    assert float(clamped) == pytest.approx(50.6401, abs=2e-4)


def test_ref_clip_scores_equal_the_reference_numbers() -> None:
    images = at_cosine(COSINES, TEXT)
    far = at_cosine([-0.5], TEXT)
    references = [torch.cat([far, row[None]]) for row in at_cosine(NEAREST, TEXT)]
    published = scoring.ref_clip_score(images, TEXTS, references, convention="published")
    assert published.tolist() == pytest.approx([0.50659, 0, 0.33074, 0.00092], abs=1e-5)
    guarded = scoring.ref_clip_score(images, TEXTS, references)
    assert guarded.tolist() == pytest.approx([0.50659, 0, 0.33074, 0.00092], abs=1e-5)


def test_preferences_equal_the_reference_numbers() -> None:
    images = at_cosine([0.07699, 0.13944, -0.5034, -0.0813], TEXT)
    found = scoring.preference(images, TEXTS, scale=100.0)
    assert found.tolist() == pytest.approx([0.00194, 0.99806, 0, 0], abs=1e-5)


# --- peers -------------------------------------------------------------------------------------


class Model(SimpleNamespace):
    """What torchmetrics asks of a model: vectors of images, and of texts."""

    def to(self, _: Any) -> "Model":
        return self


def test_clip_score_equals_torchmetrics() -> None:
    model = Model(
        get_image_features=lambda pixels: pixels.flatten(1),
        get_text_features=lambda ids, _: T0[ids[:, 0]],
        config=SimpleNamespace(),
    )

    def processor(images: Any = None, text: Any = None, **_: Any) -> dict[str, Tensor]:
        if images is not None:
            return {"pixel_values": torch.stack(images)}
        ids = torch.tensor([[int(one)] for one in text])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    texts = [str(i) for i in range(7)]
    peer = peers.torchmetrics("multimodal.clip_score")
    rows, _ = peer._clip_score_update(list(I0.view(7, 3, 2, 2)), texts, model, processor)
    torch.testing.assert_close(100 * scoring.pair_cosines(I0, T0), rows)
    assert scoring.torchmetrics_clip_score(I0, T0) == pytest.approx(max(float(rows.mean()), 0))
    assert scoring.torchmetrics_clip_score(I0, -I0) == 0


def test_clip_iqa_equals_torchmetrics() -> None:
    unit = torch.nn.functional.normalize
    good, bad = T0[:3], T1[:3]
    anchors = unit(torch.stack([good, bad], dim=1).flatten(0, 1), dim=-1)
    module = peers.torchmetrics("multimodal.clip_iqa")
    peer = module._clip_iqa_compute(
        unit(I0, dim=-1), anchors, ["a", "b", "c"], format_as_dict=False
    )
    torch.testing.assert_close(scoring.clip_iqa(I0, good, bad), peer)


# --- formulas ----------------------------------------------------------------------------------


def cos(a: Any, b: Any) -> Any:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def norm(a: Any) -> Any:
    return a / np.linalg.norm(a, axis=-1, keepdims=True)


def test_scores_of_rows_follow_their_formulas() -> None:
    i0, i1, t0, t1 = (x.numpy() for x in (I0, I1, T0, T1))
    np.testing.assert_allclose(scoring.pair_cosines(I0, T0), cos(i0, t0))
    np.testing.assert_allclose(scoring.clip_score(I0, T0, 3.0), 3 * np.maximum(cos(i0, t0), 0))
    peer = cos(norm(i1) - norm(i0), norm(t1) - norm(t0))
    np.testing.assert_allclose(scoring.directional_similarity(I0, I1, T0, T1), peer)
    direction = norm((norm(t1) - norm(t0)).mean(axis=0))
    np.testing.assert_allclose(scoring.text_direction(T0, T1), direction)
    loss = 1 - cos(norm(i1) - norm(i0), direction)
    np.testing.assert_allclose(scoring.direction_loss(I0, I1, scoring.text_direction(T0, T1)), loss)
    np.testing.assert_allclose(scoring.clip_i(I0, T0[:5]), (norm(i0) @ norm(t0[:5]).T).mean(1))


@pytest.mark.parametrize("convention", ["guarded", "published"])
def test_ref_clip_score_follows_its_formula(convention: Any) -> None:
    references = [T1[: 1 + i % 3] + i for i in range(7)]
    a = 2.5 * np.maximum(cos(I0.numpy(), T0.numpy()), 0)
    b = np.array([max(cos(t, r.numpy())) for t, r in zip(T0.numpy(), references, strict=True)])
    b = np.maximum(b, 0) if convention == "guarded" else b
    peer = np.divide(2 * a * b, a + b, out=np.zeros(7), where=a + b != 0)
    found = scoring.ref_clip_score(I0, T0, references, convention=convention)
    np.testing.assert_allclose(found, peer, atol=1e-12)


def test_preferences_of_each_prompt_sum_to_one() -> None:
    groups = ["a", "b", "a", "c", "b", "a", "b"]
    found = scoring.preference(I0, T0, 50.0, groups)
    logits = 50 * scoring.pair_cosines(I0, T0)
    for name in "abc":
        own = torch.tensor([group == name for group in groups])
        torch.testing.assert_close(found[own], logits[own].softmax(0))


def test_recall_is_the_share_of_first_ranks() -> None:
    ranks = scoring.ranks(I0, I0, torch.arange(7))
    assert scoring.recall_at(ranks, 1) == 1
    assert scoring.recall_at(torch.tensor([1, 2, 5, 11]), 5) == 0.75


def test_any_number_of_rows_is_scored_in_blocks() -> None:
    rows = AT_ONCE // 4 * 2 + 3
    a, b = (np.random.default_rng(s).normal(size=(rows, 4)).astype(np.float32) for s in (0, 1))
    a.flags.writeable = False  # as a file that is mapped
    np.testing.assert_allclose(scoring.pair_cosines(a, b), cos(a.astype(float), b.astype(float)))
    mean = scoring.RunningMean()
    for start in range(0, rows, 1000):
        mean.add(scoring.clip_score(a[start : start + 1000], b[start : start + 1000]))
    assert mean.count == rows
    assert float(mean.mean) == pytest.approx(float(scoring.clip_score(a, b).mean()), rel=1e-12)


# --- zero vectors and wrong input --------------------------------------------------------------


def test_zero_vectors_fit_nothing_and_never_give_nan() -> None:
    zero = torch.zeros(7, 12)
    scores: list[Tensor] = [
        scoring.pair_cosines(zero, T0),
        scoring.clip_score(I0, zero),
        scoring.ref_clip_score(zero, T0, [T1[:1]] * 7),
        scoring.ref_clip_score(zero, zero, [zero[:2]] * 7),
        scoring.directional_similarity(I0, I0, T0, T1),
        scoring.clip_i(zero, T0),
    ]
    for found in scores:
        assert found.tolist() == [0] * 7
    assert scoring.clip_iqa(zero, T0[:1], T1[:1]).tolist() == [[0.5]] * 7
    assert scoring.direction_loss(I0, I0, T0[0]).tolist() == [1] * 7
    assert scoring.text_direction(T0, T0).tolist() == [0] * 12
    assert scoring.preference(zero, T0, 100).tolist() == pytest.approx([1 / 7] * 7)
    assert scoring.torchmetrics_clip_score(zero, T0) == 0


def test_no_rows_give_no_scores() -> None:
    none = I0[:0]
    assert scoring.clip_score(none, none).shape == (0,)
    assert scoring.preference(none, none, 100).shape == (0,)
    assert scoring.ref_clip_score(none, none, []).shape == (0,)


class Stored:
    def __init__(self, vectors: Any, space: str) -> None:
        self.vectors, self.space, self.model = vectors, space, f"model of {space}"


BAD = I0.clone()
BAD[4, 2] = torch.nan


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: scoring.clip_score(I0, T0[:6]), ShapeError, "row by row"),
        (lambda: scoring.clip_score(I0, T0[0]), ShapeError, "row by row"),
        (lambda: scoring.clip_score(["a"], ["b"]), ShapeError, "row by row"),
        (lambda: scoring.clip_score(BAD, T0), NumericalError, "row 4 of the vectors holds NaN"),
        (lambda: scoring.clip_i(I0, BAD), NumericalError, "row 4 of the vectors holds NaN"),
        (
            lambda: scoring.clip_score(Stored(I0.numpy(), "x"), Stored(T0.numpy(), "y")),
            SpaceMismatchError,
            "model of x .* model of y",
        ),
        (lambda: scoring.ref_clip_score(I0, T0, [T1]), ShapeError, "7 texts have 1 sets"),
        (lambda: scoring.ref_clip_score(I0, T0, [T1] * 6 + [T1[:0]]), ShapeError, "row 6 has no"),
        (
            lambda: scoring.ref_clip_score(I0, T0, [T1] * 7, convention="x"),
            ConfigError,
            "published",
        ),
        (
            lambda: scoring.ref_clip_score(I0 * 0, T0, [T1[:1] * 0] * 7, convention="published"),
            NumericalError,
            'row 0 fits neither .* use convention="guarded"',
        ),
        (lambda: scoring.clip_iqa(I0, T0[:1], T0[:2]), ShapeError, "row by row"),
        (lambda: scoring.clip_iqa(I0, T0[:1], T1[:1], torch.nan), ConfigError, "scale"),
        (lambda: scoring.preference(I0, T0, 100, [0]), ShapeError, "7 rows have 1 groups"),
        (lambda: scoring.direction_loss(I0, I1, T0), ShapeError, r"direction must be \(12,\)"),
        (lambda: scoring.torchmetrics_clip_score(I0[:0], T0[:0]), ConfigError, "no images"),
        (lambda: scoring.RunningMean().mean, ConfigError, "no values"),
        (lambda: scoring.recall_at(torch.tensor([1]), 0), ConfigError, "k of at least 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    call: Callable[[], Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        call()
