"""int8 blocks: products are exact integers, and every form of a block gives the same numbers."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import (
    LARGEST_CODE,
    LARGEST_PAIR,
    LINEARS,
    Activation,
    Block,
    Quantisation,
    QuantisationReport,
    QuantisedLinear,
    TwoTowers,
)
from ecliptic.runtime import Runtime
from ecliptic.runtime.kernels import operators
from ecliptic.runtime.kernels.operators import PackedBytes, can_multiply_bytes, can_pack_bytes
from ecliptic.runtime.kernels.plain import PlainBlock
from ecliptic.runtime.kernels.quantised import PlainBytes, QuantisedBlock
from ecliptic.runtime.quantising.fitting import fit, fit_weight, outputs_of
from ecliptic.runtime.quantising.recording import LayerInputs
from tests import tiny

needs_bytes = pytest.mark.skipif(
    not can_multiply_bytes(), reason="this PyTorch or CPU has no exact products of bytes"
)


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    can_multiply_bytes.cache_clear()
    yield
    can_multiply_bytes.cache_clear()


def codes(rows: int, columns: int, seed: int) -> Tensor:
    """Weights as a quantisation gives them, with many of the largest."""
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=random) ** 3
    return fit_weight(weight, torch.ones(columns), (1.0, 0.5, 0.2))[0]


def random_block(activation: Activation = "quick_gelu", width: int = 24) -> Block:
    torch.manual_seed(3)
    block = Block(width, 2, 40, activation, 1e-5).eval()
    for weight in block.parameters():
        nn.init.normal_(weight, std=0.3)
    return block


def layers_of(block: Block, x: Tensor) -> dict[str, QuantisedLinear]:
    """int8 forms, fitted to the inputs of the layers for `x`."""
    normed, hidden = block.ln_1(x), block.mlp.activation(block.mlp.up(block.ln_2(x)))
    inputs = dict(zip(LINEARS, (normed, normed, block.ln_2(x), hidden), strict=True))
    found = {}
    for name, rows in inputs.items():
        linear: Any = block.get_submodule(name)
        seen = LayerInputs(rows, rows.amin(0), rows.amax(0))
        found[name] = fit(linear.weight, linear.bias, seen, smooth=name != "mlp.down")
    return found


@needs_bytes
@settings(max_examples=40)
@given(
    rows=st.integers(1, 40),
    inputs=st.integers(2, 150).map(lambda n: 2 * n) | st.integers(1, 999),
    outputs=st.integers(1, 70),
    zero=st.integers(0, 255),
    seed=st.integers(0, 1000),
)
def test_products_of_bytes_are_the_exact_integers(
    rows: int, inputs: int, outputs: int, zero: int, seed: int
) -> None:
    weight = codes(outputs, inputs, seed)
    random = np.random.default_rng(seed)
    x = random.choice([0, 1, 127, 128, 254, 255], (rows, inputs)).astype(np.uint8)
    wanted = (x.astype(np.int64) - zero) @ weight.numpy().astype(np.int64).T
    ones, zeros = torch.ones(outputs), torch.zeros(outputs)
    fast = PackedBytes.of(weight, ones, zeros, 1.0, zero)
    plain = PlainBytes(weight, ones, zeros, 1.0, zero)
    for form in (fast, plain) if can_pack_bytes(weight) else (plain,):
        np.testing.assert_array_equal(form.multiply(torch.from_numpy(x)).numpy(), wanted)
        other = torch.full((rows, outputs), 2.0)
        found = form.multiply_add(torch.from_numpy(x), other)
        np.testing.assert_array_equal(found.numpy(), wanted + 2)


@needs_bytes
@pytest.mark.parametrize("then", ["none", "gelu", "silu"])
def test_bytes_out_of_a_product_are_those_of_the_plain_form(then: Any) -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias = codes(64, 96, 0), torch.randn(64, generator=random)
    x = torch.randint(0, 256, (50, 96), dtype=torch.uint8, generator=random)
    made = (weight, torch.full((64,), 0.01), bias, 0.02, 100)
    fast = PackedBytes.of(*made).multiply_to_bytes(x, then, 0.05, 7).int()
    plain = PlainBytes(*made).multiply_to_bytes(x, then, 0.05, 7).int()
    assert int((fast - plain).abs().max()) <= 1  # a tie may be rounded either way
    assert float((fast != plain).float().mean()) < 0.01
    assert len(plain.unique()) > 20


def test_codes_keep_the_limit_of_pairs_and_a_layer_checks_it() -> None:
    weight = codes(30, 41, 1).int()
    assert int(weight.abs().max()) > 64
    assert int((weight[:, :40:2] + weight[:, 1:40:2]).abs().max()) == LARGEST_PAIR
    one = torch.ones(1)
    wrong = torch.full((1, 2), LARGEST_CODE, dtype=torch.int8)
    with pytest.raises(ConfigError, match="two neighbours together from -128 to 128"):
        QuantisedLinear(wrong, one, one, torch.ones(2), 1.0, 0)
    for change in ({"scale": float("nan")}, {"zero": 256}, {"scales": -one}, {"bias": one / 0}):
        made = {"scales": one, "bias": one, "smoothing": torch.ones(2), "scale": 1.0, "zero": 0}
        with pytest.raises(ConfigError, match="all other numbers finite"):
            QuantisedLinear(torch.ones(1, 2, dtype=torch.int8), **{**made, **change})
    with pytest.raises(ConfigError, match=r"scales .* must be float32 \(1,\)"):
        QuantisedLinear(torch.ones(1, 2, dtype=torch.int8), torch.ones(3), one, one, 1.0, 0)


def test_an_operator_that_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saturating:
        """Adds two products in 16 bits, as `vpmaddubsw`; the weight stays as it is."""

        def __call__(
            self, x: Tensor, scale: float, zero: int, weight: Tensor, *more: Any
        ) -> Tensor:
            products = x[:, None].int() * weight.int()  # (N, M, K)
            pairs = products.view(*products.shape[:2], -1, 2).sum(-1).clamp(-(2**15), 2**15 - 1)
            return (pairs.sum(-1) - zero * weight.int().sum(1)).float()

        def binary(self, *given: Any) -> Tensor:
            return self(*given[:4]) + given[6]

    class Operators:
        def qlinear_prepack(self, weight: Tensor, shape: None) -> Tensor:
            return weight

        qlinear_pointwise = Saturating()

    monkeypatch.setattr(operators.torch.ops, "onednn", Operators())
    assert can_multiply_bytes()  # the limit of pairs keeps it exact
    can_multiply_bytes.cache_clear()
    monkeypatch.setattr(operators, "LARGEST_PAIR", 2 * LARGEST_CODE)
    assert not can_multiply_bytes()


def test_without_the_operators_bytes_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators.torch.ops, "onednn", object())
    assert not can_multiply_bytes()
    can_multiply_bytes.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_multiply_bytes()


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("kept", [(), *((name,) for name in LINEARS), LINEARS[1:3], LINEARS])
@torch.no_grad()
def test_every_mixture_of_int8_and_float32_gives_the_block(
    activation: Activation, kept: tuple[str, ...]
) -> None:
    block, x = random_block(activation), torch.randn(60, 24)
    layers = {name: q for name, q in layers_of(block, x).items() if name not in kept}
    wanted = PlainBlock(block)
    forms = [QuantisedBlock(block, layers), QuantisedBlock(block, layers, plain=True)]
    found = []
    for form in forms:
        normed, plain = form.norm(x), wanted.norm(x)
        parts = [
            (form.qkv(normed), wanted.qkv(plain)),
            (form.query(normed), wanted.query(plain)),
            (form.key_value(normed), wanted.key_value(plain)),
            (form.out(plain, x), wanted.out(plain, x)),
            (form.mlp(x), wanted.mlp(x)),
        ]
        for mine, theirs in parts:
            assert (mine - theirs).norm() / theirs.norm() < (0.03 if layers else 1e-6)
        found.append([mine for mine, _ in parts])
    for fast, plain in zip(*found, strict=True):  # a byte may be rounded either way
        torch.testing.assert_close(fast, plain, rtol=0.01, atol=0.02 * float(plain.std()))


def test_a_fitted_layer_is_near_and_its_mean_error_is_none() -> None:
    torch.manual_seed(0)
    sizes = torch.ones(64)
    sizes[::16] = 60  # few columns are far larger, as in the norms of large models
    rows, weight, bias = torch.randn(400, 64) * sizes, torch.randn(32, 64) / sizes, torch.randn(32)
    seen = LayerInputs(rows, rows.amin(0), rows.amax(0))
    wanted = F.linear(rows, weight, bias)
    errors = []
    for smooth in (False, True):
        layer = fit(weight, bias, seen, smooth=smooth)
        error = outputs_of(layer, rows) - wanted
        assert float(error.mean(dim=0).abs().max()) < 1e-4 * float(wanted.std())
        errors.append(float(error.norm() / wanted.norm()))
    assert errors[1] < 0.02 < 0.1 < errors[0]


def quantised(model: TwoTowers, **more: Any) -> Runtime:
    """A runtime with all layers of both towers in int8."""
    linears = {}
    for name, tower in (("image", model.image), ("text", model.text)):
        assert tower is not None
        for place, block in enumerate(tower.blocks):  # type: ignore[union-attr, arg-type]
            x = torch.randn(200, block.attention.out.out_features)
            for part, layer in layers_of(block, x).items():
                linears[f"{name}.blocks.{place}.{part}"] = layer
    return Runtime(
        model, quantisation=Quantisation(linears, QuantisationReport(0.9, (), ())), **more
    )


@pytest.fixture
def model() -> TwoTowers:
    return copy.deepcopy(tiny.model(tiny.checkpoint("vit")))


@torch.no_grad()
def test_int8_is_used_until_a_weight_changes(model: TwoTowers) -> None:
    runtime, pixels = quantised(model), torch.ones(2, 3, 32, 32)
    wanted = model.encode_image(pixels)
    found = runtime.image(pixels)
    assert runtime.precision == "int8"
    assert 0.9 < float(F.cosine_similarity(found, wanted).min()) < 1 - 1e-7
    model.image_tower.blocks[0].mlp.up.weight.mul_(0.5)  # type: ignore[union-attr, index]
    assert runtime.precision == "fp32"
    assert runtime.quantisation is None
    torch.testing.assert_close(runtime.image(pixels), model.encode_image(pixels))
    assert runtime.describe()[-1].chosen == "plain"


def test_a_layer_with_a_hook_is_used_as_it_is(model: TwoTowers) -> None:
    runtime, pixels = quantised(model), torch.ones(2, 3, 32, 32)
    block: Any = model.image_tower.blocks[0]  # type: ignore[union-attr, index]
    hook = block.attention.out.register_forward_hook(lambda module, given, found: found * 2)
    assert runtime.precision == "fp32"
    with torch.no_grad():
        torch.testing.assert_close(runtime.image(pixels), model.encode_image(pixels))
    hook.remove()
    assert runtime.precision == "int8"


@torch.no_grad()
def test_companions_change_a_vector_little(model: TwoTowers) -> None:
    runtime, pixels = quantised(model), tiny.pixels(tiny.checkpoint("vit"), 40)
    alone = torch.cat([runtime.image(pixel[None]) for pixel in pixels])
    assert float(F.cosine_similarity(runtime.image(pixels), alone).min()) > 1 - 1e-3


def test_pickled_int8_gives_the_same_vectors(model: TwoTowers) -> None:
    runtime, pixels = quantised(model), torch.ones(2, 3, 32, 32)
    again = pickle.loads(pickle.dumps(runtime))
    assert again.precision == "int8"
    assert torch.equal(again.image(pixels), runtime.image(pixels))
    with torch.no_grad():
        model.logit_scale.mul_(2)  # no weight of a block
    assert runtime.precision == "int8"
    model.text_tower.blocks[1].mlp.down = nn.Linear(64, 32)  # type: ignore[union-attr, index]
    assert pickle.loads(pickle.dumps(runtime)).precision == "fp32"


def test_plain_kernels_and_machines_without_the_operators_are_named(
    model: TwoTowers, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.ones(2, 3, 32, 32)
    wanted = quantised(model, kernels="auto")
    plain = Runtime(model, kernels="plain", quantisation=wanted.quantisation)
    assert 'as kernels="plain" asks: not quicker' in plain.describe()[-1].why
    cosines = F.cosine_similarity(plain.image(pixels), wanted.image(pixels))
    assert float(cosines.min()) > 0.999
    monkeypatch.setattr(operators, "can_multiply_bytes", lambda: False)
    monkeypatch.setattr("ecliptic.runtime.describing.can_multiply_bytes", lambda: False)
    without = Runtime(model, kernels="auto", quantisation=wanted.quantisation)
    assert "int8 is not quicker than fp32 here" in without.describe()[-1].why
    torch.testing.assert_close(without.image(pixels), plain.image(pixels))


def test_int8_needs_float32_on_the_cpu(model: TwoTowers) -> None:
    int8 = quantised(model).quantisation
    with pytest.raises(
        ConfigError, match=r"int8 layers are those of a model in fp32, but .* bf16 on cpu"
    ):
        Runtime(model, "bf16", quantisation=int8)
