from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from ecliptic.checkpoints import write
from ecliptic.diffusion.emphasis.blending import (
    blend,
    blend_pooled,
    concatenate,
    concatenate_pooled,
)
from ecliptic.errors import ConfigError, ShapeError
from tests import peers, tiny

POSITIVE = st.lists(st.floats(0.1, 5), min_size=1, max_size=4)


def part(tokens: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(tokens, 3, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def compel(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """compel with the tiny text tower."""
    folder = tmp_path_factory.mktemp("compel")
    write(tiny.checkpoint("unprojected"), folder, "transformers")
    transformers = peers.transformers()
    return peers.compel().Compel(
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder),
        text_encoder=transformers.CLIPTextModel.from_pretrained(folder).eval(),
    )


def test_a_blend_by_hand() -> None:
    parts = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -2.0]])]
    assert blend(parts, [1, 3]).tolist() == [[2.5, -1.0]]
    assert blend(parts, [1, 3], normalize=False).tolist() == [[10.0, -4.0]]
    assert blend(parts, [2, -1]).tolist() == [[-1.0, 6.0]]


@given(weights=POSITIVE)
def test_a_blend_of_one_prompt_with_itself_is_the_prompt(weights: list[float]) -> None:
    torch.testing.assert_close(blend([part()] * len(weights), weights), part())


@pytest.mark.parametrize("weights", [(1, -1), (0, 0), (1.0, -0.9999)])
def test_a_blend_that_would_divide_by_nothing_is_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"a blend divides by their sum.*no_normalize"):
        blend([part(), part(seed=1)], weights)
    with pytest.raises(ConfigError, match="no_normalize"):
        blend_pooled([part()[0], part()[1]], weights)
    found = blend([part(), part(seed=1)], weights, normalize=False)
    assert bool(found.isfinite().all())


def test_weights_must_be_finite_and_as_many_as_the_prompts() -> None:
    with pytest.raises(ConfigError, match="2 prompts and 1 weights"):
        blend([part(), part()], [1])
    with pytest.raises(ConfigError, match="0 prompts and 0 weights"):
        concatenate([], [])
    with pytest.raises(ConfigError, match="must all be finite"):
        concatenate([part()], [float("nan")])
    with pytest.raises(ConfigError, match="at least one"):
        concatenate_pooled([])


def test_a_shorter_prompt_is_blended_with_empty_chunks_behind_it() -> None:
    long, short, empty = part(6), part(2, seed=1), part(2, seed=2)
    wanted = (long + torch.cat([short, empty, empty])) / 2
    torch.testing.assert_close(blend([long, short], [1, 1], empty=empty), wanted)


@pytest.mark.parametrize("empty", [None, torch.zeros(5, 3), torch.zeros(2, 5)])
def test_lengths_that_empty_chunks_cannot_fill_are_refused(empty: Tensor | None) -> None:
    with pytest.raises(ShapeError, match="one chunk of the encoded empty prompt"):
        blend([part(6), part(4)], [1, 1], empty=empty)


def test_prompts_of_two_encoders_are_not_blended() -> None:
    with pytest.raises(ShapeError, match="encode all with the same encoders and layout"):
        blend([torch.ones(4, 3), torch.ones(4, 5)], [1, 1])


def test_concatenating_by_hand() -> None:
    parts = [torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [6.0]])]
    empty = torch.tensor([[1.0], [0.0]])
    found = concatenate(parts, [1, 0.5], empty=empty)
    assert found.flatten().tolist() == [1.0, 2.0, 2.5, 3.0]


def test_concatenating_at_weight_one_copies_every_bit_and_needs_no_empty_prompt() -> None:
    parts = [part(4), part(2, seed=1)]
    assert torch.equal(concatenate(parts, [1, 1]), torch.cat(parts))
    with pytest.raises(ShapeError, match="empty=None"):
        concatenate(parts, [1, 0.5])


def test_half_precision_is_blended_in_float32() -> None:
    parts = [part().half() * 60000 / part().abs().max(), part(seed=1).half()]
    found = blend(parts, [3, 1])
    assert found.dtype == torch.float16
    torch.testing.assert_close(
        found.float(), blend([p.float() for p in parts], [3, 1]).half().float()
    )


def test_pooled_vectors_follow_their_prompts() -> None:
    pooled = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, -2.0])]
    assert blend_pooled(pooled, [1, 3]).tolist() == [2.5, -1.0]
    assert concatenate_pooled(pooled) is pooled[0]


def test_nothing_given_is_changed_and_gradients_flow() -> None:
    parts = [part().requires_grad_(), part(2, seed=1).requires_grad_()]
    before = [p.detach().clone() for p in parts]
    empty = part(2, seed=2)
    joined = torch.cat([blend(parts, [1, 2], empty=empty), concatenate(parts, [1, 2], empty=empty)])
    joined.sum().backward()
    for now, then in zip(parts, before, strict=True):
        assert torch.equal(now.detach(), then)
        assert now.grad is not None
        assert bool((now.grad != 0).all())


@pytest.mark.parametrize(
    ("prompt", "texts", "weights"),
    [
        ('("a cat", "a big dog").blend(1, 0.4)', ["a cat", "a big dog"], [1, 0.4]),
        ('("a cat", "a dog").blend(1, -0.4)', ["a cat", "a dog"], [1, -0.4]),
        ('("a cat", "a dog").blend(1, 2, no_normalize)', ["a cat", "a dog"], [1, 2]),
        ('("a cat", "").blend(0.7, 1)', ["a cat", ""], [0.7, 1]),
        ('("a cat", "a dog", "tea").and()', ["a cat", "a dog", "tea"], [1, 1, 1]),
        ('("a cat", "a dog").and(1, 0.5)', ["a cat", "a dog"], [1, 0.5]),
        ('("a cat", "a dog").and(1.3, -0.5)', ["a cat", "a dog"], [1.3, -0.5]),
    ],
)
def test_compel_itself_gives_the_same(
    prompt: str, texts: list[str], weights: list[float], compel: Any
) -> None:
    parts = [compel(text)[0] for text in texts]
    if "blend" in prompt:
        found = blend(parts, weights, normalize="no_normalize" not in prompt)
    else:
        found = concatenate(parts, weights, empty=compel("")[0])
    torch.testing.assert_close(found, compel(prompt)[0], atol=2e-5, rtol=0)
