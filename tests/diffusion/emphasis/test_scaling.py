from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from ecliptic.diffusion.emphasis.scaling import RESCALE_LIMIT, RescaleWarning, original_batch
from ecliptic.diffusion.tokens.chunks import Chunks
from ecliptic.errors import ShapeError
from tests.diffusion.emphasis.weighted_chunks import emphasise, weigh

MILD = st.lists(st.floats(0.5, 2), min_size=1, max_size=14)


def vectors(like: Chunks, seed: int = 0) -> Tensor:
    """(C, T, 8) random vectors with a mean well away from 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*like.ids.shape, 8, generator=generator) + 1


def test_the_original_by_hand() -> None:
    prompt = weigh([2.0], context=3)
    z = torch.tensor([[[1.0, 2.0], [2.0, 4.0], [1.0, 2.0]]])
    # mean 2.00 before, 3.00 after, so all is scaled by 0.67
    wanted = [[0.67, 1.33], [2.67, 5.33], [0.67, 1.33]]
    result = emphasise(prompt, "original", z)[0]
    assert [[round(x, 2) for x in row] for row in result.tolist()] == wanted


def test_no_norm_is_the_weight_times_the_vector() -> None:
    prompt = weigh([2.0, -0.5], context=4)
    result = emphasise(prompt, "no-norm", torch.ones(1, 4, 1))
    assert result.flatten().tolist() == [1.0, 2.0, -0.5, 1.0]


@given(chunks=st.lists(MILD, min_size=1, max_size=3))
@settings(max_examples=40)
def test_the_original_keeps_the_mean_of_every_chunk(chunks: list[list[float]]) -> None:
    prompt = weigh(*chunks)
    z = vectors(prompt)
    result = emphasise(prompt, "original", z)
    torch.testing.assert_close(result.mean((1, 2)), z.mean((1, 2)))


@given(chunks=st.lists(MILD, min_size=2, max_size=3))
@settings(max_examples=40)
def test_lpw_keeps_the_mean_of_the_prompt_with_one_ratio(chunks: list[list[float]]) -> None:
    prompt = weigh(*chunks)
    z = vectors(prompt)
    result = emphasise(prompt, "lpw", z)
    torch.testing.assert_close(result.mean(), z.mean())
    ratio = (result / (z * prompt.weights.unsqueeze(-1))).flatten()
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_the_original_of_a_chunk_does_not_depend_on_the_others() -> None:
    both, alone = weigh([1.5, 0.7], [0.6]), weigh([1.5, 0.7])
    z = vectors(both)
    apart = emphasise(alone, "original", z[:1])
    assert torch.equal(emphasise(both, "original", z)[:1], apart)
    assert not torch.allclose(emphasise(both, "lpw", z)[:1], apart, atol=1e-3)


def test_lpw_leaves_positions_that_are_dropped_out_of_the_mean() -> None:
    prompt = weigh([2.0], [1.0], context=4)
    used = torch.tensor([[True, True, True, False], [False, True, True, True]])
    z = vectors(prompt)
    result = emphasise(replace(prompt, used=used), "lpw", z)
    torch.testing.assert_close(result[used].mean(), z[used].mean())
    assert abs(float(result.mean() - z.mean())) > 1e-3


def test_a_batch_of_one_prompt_is_the_original() -> None:
    prompt = weigh([1.5, 0.7], [0.6])
    z = vectors(prompt)
    (result,) = original_batch([z], [prompt])
    torch.testing.assert_close(result, emphasise(prompt, "original", z))


def test_a_batch_shares_one_ratio_for_each_chunk_number() -> None:
    prompts = [weigh([1.5, 0.7], [0.6]), weigh([1.0], [2.0])]
    z = [vectors(prompt, seed) for seed, prompt in enumerate(prompts)]
    results = original_batch(z, prompts)
    for chunk in range(2):
        before = torch.stack([prompt[chunk] for prompt in z]).mean()
        after = torch.stack([prompt[chunk] for prompt in results]).mean()
        torch.testing.assert_close(after, before)
    # the plain chunk of the other prompt is scaled too, so this is not the default
    assert not torch.allclose(results[1][0], z[1][0], atol=1e-3)


def test_a_batch_of_plain_prompts_changes_no_bit() -> None:
    prompts = [weigh([1.0, 1.0]), weigh([1.0])]
    z = [vectors(prompt, seed).half() for seed, prompt in enumerate(prompts)]
    for result, before in zip(original_batch(z, prompts), z, strict=True):
        assert torch.equal(result, before)
    assert original_batch([], []) == []


def test_prompts_of_other_lengths_share_no_batch() -> None:
    prompts = [weigh([1.5]), weigh([1.5], [1.2])]
    with pytest.raises(ShapeError, match="encoded empty chunks"):
        original_batch([vectors(prompt) for prompt in prompts], prompts)


def line(*values: float) -> Tensor:
    return torch.tensor(values)[None, :, None]  # (1, T, 1)


@pytest.mark.parametrize("name", ["original", "lpw"])
@pytest.mark.parametrize(
    ("weight", "ratio"),
    [(-2.0, "-1"), (-0.5, "inf"), (-0.52, "-75"), (-0.44, "25"), (40.0, "0.037")],
)
def test_a_ratio_that_is_not_sane_is_left_out_with_a_warning(
    name: str, weight: float, ratio: str
) -> None:
    prompt, z = weigh([weight], context=3), line(0.5, 2.0, 0.5)
    with pytest.warns(RescaleWarning, match=f"scale every vector by {ratio}, because"):
        result = emphasise(prompt, name, z)  # type: ignore[arg-type]
    assert torch.equal(result, z * prompt.weights.unsqueeze(-1))


def test_a_ratio_just_inside_the_limit_is_applied() -> None:
    prompt, z = weigh([-0.34], context=3), line(0.5, 2.0, 0.5)
    ratio = 3 / (1 - 0.68)
    assert 9 < ratio < RESCALE_LIMIT
    result = emphasise(prompt, "original", z)
    torch.testing.assert_close(result, ratio * z * prompt.weights.unsqueeze(-1))


def test_only_the_chunk_without_a_sane_ratio_is_left_out() -> None:
    prompt = weigh([-2.0], [2.0], context=3)
    z = line(0.5, 2.0, 0.5).repeat(2, 1, 1)
    with pytest.warns(RescaleWarning):
        result = emphasise(prompt, "original", z)
    torch.testing.assert_close(result[1].mean(), z[1].mean())


def test_gradients_stay_finite_where_the_weighted_mean_is_zero() -> None:
    prompt, z = weigh([-0.5], context=3), line(0.5, 2.0, 0.5).requires_grad_()
    with pytest.warns(RescaleWarning):
        emphasise(prompt, "original", z).sum().backward()
    assert z.grad is not None
    assert z.grad.flatten().tolist() == [1.0, -0.5, 1.0]


def test_the_batch_has_no_guard_as_a1111_has_none() -> None:
    prompt, z = weigh([-2.0], context=3), line(0.5, 2.0, 0.5)
    (result,) = original_batch([z], [prompt])
    assert result.flatten().tolist() == [-0.5, 4.0, -0.5]


def test_the_batch_lets_nothing_infinite_out() -> None:
    prompt, z = weigh([-0.5], context=3), line(0.5, 2.0, 0.5)
    with pytest.warns(RescaleWarning, match="scale every vector by inf"):
        (result,) = original_batch([z], [prompt])
    assert result.flatten().tolist() == [0.5, -1.0, 0.5]
