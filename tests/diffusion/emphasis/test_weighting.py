from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from ecliptic.diffusion.emphasis.weighting import plan
from ecliptic.diffusion.options import Emphasis, EmphasisName, Normalization
from ecliptic.diffusion.tokens.chunks import Chunks
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from tests.diffusion.emphasis.weighted_chunks import NAMES, emphasise, encode, weigh

FRAGMENTWISE = ("compel", "compel-remove")  # weight whole fragments, and take no normalization
WORDWISE = [name for name in NAMES if name not in (*FRAGMENTWISE, "ignore")]
MIXED = ([0.5, 1.3, 1.0, -0.4], [1.2, 0.0, 0.5])
WEIGHTS = st.lists(st.floats(-10, 10), min_size=1, max_size=6)


def sum_encoding(given: Chunks) -> Tensor:
    """(C, T, 1): a thousandth of the sum of the ids up to each token, to count with by hand."""
    return given.ids.cumsum(dim=-1).unsqueeze(-1) / 1000


def test_every_emphasis_is_tested_here() -> None:
    assert set(get_args(EmphasisName)) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "normalization"),
    [
        *((name, "none") for name in NAMES),
        *((name, how) for name in WORDWISE for how in get_args(Normalization)[1:]),
    ],
)
def test_weights_of_one_change_no_bit(name: Any, normalization: Any) -> None:
    plain = weigh([1.0] * 5, [1.0] * 3, length=2)
    z = encode(plain)
    assert torch.equal(emphasise(plain, name, z, normalization=normalization), z)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ignore"])
def test_other_weights_change_the_vectors(name: Any) -> None:
    prompt = weigh([1.0, 0.8, 1.2, 1.0])
    z = encode(prompt)
    assert (emphasise(prompt, name, z) - z).abs().max() > 1e-3


def test_ignored_weights_do_nothing() -> None:
    prompt = weigh(*MIXED)
    z = encode(prompt)
    assert torch.equal(emphasise(prompt, "ignore", z), z)


@pytest.mark.filterwarnings("ignore::ecliptic.diffusion.emphasis.scaling.RescaleWarning")
@pytest.mark.parametrize("name", NAMES)
@given(chunks=st.lists(WEIGHTS, min_size=1, max_size=2))
@settings(max_examples=20)
def test_every_weight_from_minus_ten_to_ten_stays_finite(name: Any, chunks: Any) -> None:
    result = emphasise(weigh(*chunks), name)
    assert bool(result.isfinite().all())
    assert result.shape == (len(chunks), 16, 64)


@pytest.mark.filterwarnings("ignore::ecliptic.diffusion.emphasis.scaling.RescaleWarning")
@pytest.mark.parametrize("name", NAMES)
def test_nothing_given_is_changed_and_gradients_flow(name: Any) -> None:
    prompt = weigh(*MIXED)
    z = encode(prompt).requires_grad_()
    before = [z.detach().clone(), prompt.ids.clone(), prompt.weights.clone(), prompt.words.clone()]
    emphasise(prompt, name, z).square().sum().backward()
    for now, then in zip([z, prompt.ids, prompt.weights, prompt.words], before, strict=True):
        assert torch.equal(now.detach(), then)
    assert z.grad is not None
    assert bool(z.grad.isfinite().all())
    assert bool((z.grad != 0).any())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: Any, dtype: torch.dtype) -> None:
    prompt = weigh([0.9, 1.3, 1.1, 0.7])

    def half(given: Chunks) -> Tensor:
        return (encode(given) + 1).to(dtype)

    result = emphasise(prompt, name, encode=half)
    full = emphasise(prompt, name, encode=lambda given: half(given).float())
    assert result.dtype == dtype
    assert torch.equal(result, full.to(dtype))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in ("lpw", "down-weight")]
)  # those two read all chunks at once
def test_a_chunk_without_weights_stays_beside_one_with_heavy_ones(name: Any) -> None:
    prompt = weigh([1.0, 1.0], [1.4, 1.2])
    z = encode(prompt)
    assert torch.equal(emphasise(prompt, name, z + 1)[0], (z + 1)[0])


def test_what_makes_infinity_is_an_error_that_names_the_weights() -> None:
    with pytest.raises(NumericalError, match="weights from 1 to 3e\\+38 under emphasis 'no-norm'"):
        emphasise(weigh([1.0, 3e38]), "no-norm")


@pytest.mark.filterwarnings("ignore::ecliptic.diffusion.emphasis.scaling.RescaleWarning")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ignore"])
@pytest.mark.parametrize("weight", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_no_finite_number_is_an_error(name: Any, weight: float) -> None:
    with pytest.raises(NumericalError, match="use weights closer to 1"):
        emphasise(weigh([1.0, weight]), name)


def test_vectors_of_other_chunks_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(1, 16, 64\) do not fit chunks \(2, 16\)"):
        emphasise(weigh(*MIXED), "no-norm", encode(weigh([1.1])))


def test_an_unknown_emphasis_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"emphasis must be one of original, no-norm, .* got 'loud'"
    ):
        Emphasis("loud")  # type: ignore[arg-type]


def test_an_unknown_normalization_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"none, mean, length, length\+mean, got 'median'"):
        Emphasis("comfyui", "median")  # type: ignore[arg-type]


def test_compel_with_normalised_weights_points_to_the_one_that_has_them() -> None:
    with pytest.raises(ConfigError, match='use "adv-compel"'):
        Emphasis("compel", "length")


def test_comfyui_by_hand() -> None:
    result = emphasise(weigh([1.0, 1.5, 0.5]), "comfyui", encode=sum_encoding)
    # z: 49.41, 50.41, 51.42, 52.44; e: 49.41, 98.81, 148.22, 197.63
    assert [round(x, 2) for x in result[0, :4, 0].tolist()] == [49.41, 50.41, 3.01, 125.03]


def test_comfyui_at_zero_is_the_empty_prompt_there_and_the_prompt_elsewhere() -> None:
    prompt = weigh([1.0, 0.0, 1.0], [0.0])
    z, empty = encode(prompt), encode(weigh([]))[0]
    result = emphasise(prompt, "comfyui", z)
    zero = prompt.weights == 0
    assert torch.equal(result[zero], empty.expand_as(result)[zero])
    assert torch.equal(result[~zero], z[~zero])


@given(a=st.floats(-10, 10), b=st.floats(-10, 10))
@settings(max_examples=30)
def test_comfyui_is_linear_in_the_weight(a: float, b: float) -> None:
    half, left, right = (emphasise(weigh([1.0, w]), "comfyui") for w in ((a + b) / 2, a, b))
    torch.testing.assert_close(left + right, 2 * half, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["comfyui", "compel", "adv-compel"])
def test_the_empty_prompt_is_asked_for_before_anything_is_encoded(name: Any) -> None:
    found = plan(weigh([1.2], [1.0], [0.7]), Emphasis(name))
    assert found is not None
    assert found.needs_empty


@pytest.mark.parametrize("name", ["original", "no-norm", "lpw", "down-weight", "comfy++"])
def test_rules_that_do_not_read_the_empty_prompt_do_not_ask_for_it(name: Any) -> None:
    found = plan(weigh([1.2], [1.0], [0.7]), Emphasis(name))
    assert found is not None
    assert not found.needs_empty


@pytest.mark.parametrize("name", ["compel", "adv-compel", "down-weight", "comfy++"])
def test_a_variant_has_only_the_chunks_that_differ(name: Any) -> None:
    found = plan(weigh([1.0], [0.5], [1.0, 1.0]), Emphasis(name))
    assert found is not None
    (variant,) = found.variants
    assert variant.numbers.tolist() == [1]
    assert len(variant.chunks) == 1
