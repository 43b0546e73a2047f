from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from ecliptic.diffusion.emphasis.weighting import normalise
from tests.diffusion.emphasis.weighted_chunks import emphasise, weigh


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("none", [1.0, 1.5, 1.5, 0.5, 0.5, 1.0]),
        ("mean", [1.0, 1.5, 1.5, 0.5, 0.5, 1.0]),
        ("length", [1.0, 1.35, 1.35, 0.65, 0.65, 1.0]),
    ],
)
def test_two_words_of_two_tokens_by_hand(how: Any, wanted: list[float]) -> None:
    found = normalise(weigh([1.5, 0.5], context=6, length=2), how)
    assert [round(weight, 2) for weight in found[0].tolist()] == wanted


def test_the_mean_moves_all_words_and_no_mark() -> None:
    found = normalise(weigh([2.0, 1.0, 1.5], context=6), "mean")
    assert found.tolist() == [[1.0, 1.5, 0.5, 1.0, 1.0, 1.0]]


def test_length_comes_before_the_mean() -> None:
    found = normalise(weigh([3.0, 1.0], context=10, length=4), "length+mean")
    assert found.tolist() == [[1.0] + [1.5] * 4 + [0.5] * 4 + [1.0]]


def test_the_tokens_of_a_word_are_counted_over_all_chunks() -> None:
    prompt = weigh([2.0], [2.0], context=4, length=2)
    prompt.words[prompt.words == 1] = 0  # one word of four tokens, cut in two
    assert normalise(prompt, "length").tolist() == [[1.0, 1.5, 1.5, 1.0]] * 2


@given(weights=st.lists(st.floats(-10, 10), min_size=1, max_size=14))
def test_the_mean_over_words_becomes_one(weights: list[float]) -> None:
    found = normalise(weigh(weights), "mean")
    assert float(found[0, 1 : 1 + len(weights)].double().mean()) == pytest.approx(1, abs=1e-5)


@given(weight=st.floats(-10, 10))
def test_equal_weights_centre_on_exactly_one(weight: float) -> None:
    assert bool((normalise(weigh([weight] * 7), "mean") == 1).all())


@pytest.mark.parametrize("how", ["mean", "length", "length+mean"])
def test_a_prompt_without_words_keeps_its_weights(how: Any) -> None:
    assert bool((normalise(weigh([]), how) == 1).all())


def test_an_emphasis_reads_the_normalised_weights() -> None:
    prompt = weigh([2.0, 1.0, 1.5])
    moved = weigh([1.5, 0.5, 1.0])
    z = torch.ones(1, 16, 2)
    assert torch.equal(
        emphasise(prompt, "no-norm", z, normalization="mean"), emphasise(moved, "no-norm", z)
    )
