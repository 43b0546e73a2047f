"""Activations follow their formulas; norms are computed in float32 for every dtype."""

import math

import pytest
import torch

from ecliptic.model import Attention, LayerNorm, QuickGELU
from ecliptic.model.layers import activation_of


def test_quick_gelu_is_openais_formula() -> None:
    x = torch.linspace(-9, 9, 401)
    torch.testing.assert_close(QuickGELU()(x), x * torch.sigmoid(1.702 * x))


def test_gelu_is_the_exact_one() -> None:
    x = torch.linspace(-9, 9, 401, dtype=torch.float64)
    wanted = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    torch.testing.assert_close(activation_of("gelu")(x), wanted)
    assert (activation_of("quick_gelu")(x) - wanted).abs().max() > 0.01  # they are not the same


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_of_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    """Squares of 300 overflow float16, and a mean of 4096 values loses its digits there."""
    norm = LayerNorm(4096).to(dtype)
    norm.weight.data = torch.randn(4096, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = (300 + 40 * torch.randn(2, 4096, generator=torch.Generator().manual_seed(1))).to(dtype)
    found = norm(x)
    wide = LayerNorm(4096)
    wide.load_state_dict({name: value.float() for name, value in norm.state_dict().items()})
    assert found.dtype == dtype
    assert torch.equal(found, wide(x.float()).to(dtype))


def test_eps_is_used() -> None:
    x = torch.tensor([[1e-3, -1e-3]])
    torch.testing.assert_close(LayerNorm(2, eps=1e-5)(x)[0, 0], torch.tensor(1e-3 / 1.1e-5**0.5))
    torch.testing.assert_close(LayerNorm(2, eps=1e-6)(x)[0, 0], torch.tensor(1e-3 / 2e-6**0.5))


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_attention_equals_torchs_own(causal: bool) -> None:
    torch.manual_seed(0)
    ours = Attention(width=24, heads=3)
    theirs = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 7, 24)
    mask = torch.full((7, 7), float("-inf")).triu(1) if causal else None
    wanted, weights = theirs(x, x, x, attn_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(ours(x, causal=causal), wanted)
    found, looked = ours.look(x, causal=causal)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(looked, weights)
