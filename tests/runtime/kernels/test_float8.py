"""fp8 layers: their numbers, on every device, and the operator that GPUs have for them."""

import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import (
    LINEARS,
    Activation,
    Block,
    Float8Layers,
    QuantisationReport,
    TwoTowers,
    names_of_block,
    random_model,
)
from ecliptic.runtime import Runtime, describing, reducing
from ecliptic.runtime.blocks import run, run_all
from ecliptic.runtime.compiled import CompiledTowers
from ecliptic.runtime.kernels import float8, operators
from ecliptic.runtime.kernels.float8 import LARGEST, Float8Block, Float8Linear, to_float8
from ecliptic.runtime.kernels.operators import (
    FLOAT8,
    can_multiply_float8,
    has_float8,
    multiplies_float8,
    multiply_float8,
)
from ecliptic.runtime.kernels.plain import PlainBlock
from tests import tiny

ROUNDING = 2**-4  # of a number of e4m3, as a share of it
NO_REPORT = QuantisationReport(0.9, (), ())


def _has_products() -> bool:
    """Whether PyTorch has the operator on CPUs, asked without what is tested here."""
    codes, step = torch.ones(16, 16).to(FLOAT8), torch.tensor(1.0)
    try:
        torch._scaled_mm(codes, codes.T, step, step, out_dtype=torch.bfloat16)
    except (RuntimeError, NotImplementedError):
        return False
    return True


needs_products = pytest.mark.skipif(
    not _has_products(), reason="this PyTorch multiplies no 8-bit floats on CPUs"
)


def random_rows(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).bfloat16()


def random_linear(inputs: int = 64, outputs: int = 48) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(inputs, outputs).bfloat16()


def random_block(activation: Activation = "quick_gelu") -> Block:
    torch.manual_seed(3)
    return Block(32, 2, 64, activation, 1e-5).bfloat16().eval()


def test_each_row_uses_the_whole_range() -> None:
    x = random_rows(5, 40) * torch.tensor([[1e-6], [1.0], [1e6], [0.0], [3e30]]).bfloat16()
    codes, steps = to_float8(x)
    assert codes.dtype == FLOAT8
    assert steps.shape == (5, 1)
    assert codes.float().isfinite().all()
    assert codes.float().abs().amax(dim=1).tolist() == [LARGEST, LARGEST, LARGEST, 0, LARGEST]
    error = (codes.float() * steps - x.float()).abs()
    smallest = steps * 2**-10  # half of the smallest number above 0
    assert bool((error <= ROUNDING * x.float().abs() + smallest).all())


def test_rows_with_nan_and_infinity_stay_so() -> None:
    x = random_rows(3, 16)
    x[1, 2], x[2, 3] = float("nan"), float("inf")
    layer = Float8Linear.of(random_linear(16))
    finite = layer.multiply(x).isfinite().all(dim=1)
    assert finite.tolist() == [True, False, False]


@pytest.mark.parametrize("rows", [1, 7])
def test_a_layer_is_the_product_of_rounded_numbers(rows: int) -> None:
    linear, x = random_linear(), random_rows(rows, 64)
    codes, steps = to_float8(x)
    weights, weight_steps = to_float8(linear.weight.detach())
    rounded = (codes.double() * steps) @ (weights.double() * weight_steps).T
    wanted = rounded + linear.bias.detach().double()
    found = Float8Linear.of(linear).multiply(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=1e-6)
    float_result = linear(x).double()
    assert F.cosine_similarity(found.double(), float_result, dim=1).min() > 0.998


@needs_products
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 48), (33, 128, 16)])
def test_the_operator_of_gpus_gives_the_same_numbers(rows: int, inputs: int, outputs: int) -> None:
    """PyTorch has the operator on CPUs too, with the same arguments."""
    linear, x = random_linear(inputs, outputs), random_rows(rows, inputs)
    layer = Float8Linear.of(linear)
    codes, steps = to_float8(x)
    found = multiply_float8(codes, layer.codes, steps, layer.steps, layer.bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, layer.multiply(x), rtol=2**-7, atol=2**-7)


def test_fast_layers_call_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float8, "can_multiply_float8", lambda _: True)
    calls = []

    def multiply(*given: Tensor) -> Tensor:
        calls.append([tuple(one.shape) for one in given])
        return torch.zeros(len(given[0]), len(given[1]), dtype=torch.bfloat16)

    monkeypatch.setattr(float8, "multiply_float8", multiply)
    layer = Float8Linear.of(random_linear())
    assert layer.multiply(random_rows(6, 64).view(2, 3, 64)).shape == (2, 3, 48)
    assert calls == [[(6, 64), (48, 64), (6, 1), (1, 48), (48,)]]
    assert not Float8Linear.of(random_linear(), plain=True).fast


@needs_products
def test_the_products_are_tried_on_a_device() -> None:
    assert multiplies_float8(torch.device("cpu"))


@pytest.mark.parametrize(
    ("capability", "tried", "wanted"),
    [
        ((8, 0), True, False),
        ((8, 9), True, True),
        ((9, 0), True, True),
        ((12, 0), RuntimeError("no kernel image"), False),
        ((9, 0), TypeError("another signature"), False),
        ((9, 0), False, False),  # wrong numbers
    ],
)
def test_a_device_has_what_it_computes_rightly(
    capability: tuple[int, int], tried: Any, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def multiplies(_: torch.device) -> bool:
        if isinstance(tried, Exception):
            raise tried
        return bool(tried)

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(operators, "multiplies_float8", multiplies)
    ask = has_float8.__wrapped__
    assert ask(torch.device("cuda")) == wanted
    assert not ask(torch.device("cpu"))
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert not ask(torch.device("cuda"))


def test_sizes_and_dtypes_that_do_not_fit_are_multiplied_plainly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "has_float8", lambda _: True)
    assert can_multiply_float8(torch.zeros(32, 48, dtype=torch.bfloat16))
    assert not can_multiply_float8(torch.zeros(32, 40, dtype=torch.bfloat16))
    assert not can_multiply_float8(torch.zeros(32, 48))


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("parts", [LINEARS, ("mlp.up",), ("mlp.down",), ("attention.qkv",), ()])
def test_a_block_is_near_the_plain_one(activation: Activation, parts: tuple[str, ...]) -> None:
    block = random_block(activation)
    layers = {part: Float8Linear.of(block.get_submodule(part)) for part in parts}  # type: ignore[arg-type]
    form, plain = Float8Block(block, layers), PlainBlock(block)
    x = random_rows(12, 32).view(2, 6, 32)
    with torch.inference_mode():
        for causal in (False, True):
            found = run_all([form], x, causal=causal).float()
            wanted = run_all([plain], x, causal=causal).float()
            assert F.cosine_similarity(found, wanted, dim=-1).min() > 0.998
            assert parts == () or not torch.equal(found, wanted)
            ends = torch.tensor([2, 5])
            last = run([form], x, ends, causal=causal).float()
            torch.testing.assert_close(last, found[[0, 1], ends], rtol=0.02, atol=0.02)
    assert len(list(form.tensors())) == 3 * (len(parts) + 2 * ("attention.qkv" in parts))


def test_a_written_weight_ends_the_form() -> None:
    block = random_block()
    form = Float8Block(block, {})
    assert form.holds(block)
    assert not form.holds(copy.deepcopy(block))
    with torch.no_grad():
        block.mlp.up.weight.mul_(2)
    assert not form.holds(block)


def reduced(kind: str = "vit", kernels: Any = "plain", model: TwoTowers | None = None) -> Runtime:
    """All layers of a tiny model in fp8."""
    model = (model or copy.deepcopy(tiny.model(tiny.checkpoint(kind)))).bfloat16()
    names = {
        name
        for tower in (model.image, model.text)
        if tower is not None and hasattr(tower, "blocks")
        for place in range(len(tower.blocks))
        for name in names_of_block("image" if tower is model.image else "text", place).values()
    }
    return Runtime(model, kernels=kernels, quantisation=Float8Layers(frozenset(names), NO_REPORT))


@pytest.mark.parametrize("kind", ["vit", "resnet", "text"])
def test_a_runtime_computes_in_fp8_until_a_weight_changes(kind: str) -> None:
    runtime = reduced(kind)
    made, plain = tiny.checkpoint(kind), Runtime(runtime.model)
    tokens = tiny.tokens(made)
    found, wanted = runtime.text(tokens), plain.text(tokens)
    assert runtime.precision == "fp8"
    assert F.cosine_similarity(found.float(), wanted.float()).min() > 0.98
    assert not torch.equal(found, wanted)
    again = pickle.loads(pickle.dumps(runtime))
    assert again.precision == "fp8"
    assert torch.equal(again.text(tokens), found)
    with torch.no_grad():
        runtime.model.text_tower.blocks[0].mlp.up.weight.mul_(2)  # type: ignore[union-attr, operator]
    assert runtime.precision == "bf16"
    torch.testing.assert_close(runtime.text(tokens), plain.text(tokens))


def test_compiled_towers_use_the_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one graph for all batches, with weights that a CUDA graph need not copy."""
    monkeypatch.setattr(reducing, "has_float8", lambda _: True)
    torch._dynamo.reset()
    runtime, graphs = reduced(kernels="compiled"), []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(inputs)
        return graph.forward

    runtime._compiled = CompiledTowers(backend)
    plain = reduced()
    pixels = tiny.pixels(tiny.checkpoint("vit"), 9)
    for count in (1, 2, 5, 9):
        found, wanted = runtime.image(pixels[:count]), plain.image(pixels[:count])
        assert F.cosine_similarity(found.float(), wanted.float()).min() > 0.999
    tokens = tiny.tokens(tiny.checkpoint("vit"))
    found, wanted = runtime.text(tokens), plain.text(tokens)
    assert F.cosine_similarity(found.float(), wanted.float()).min() > 0.999
    assert len(graphs) == 2
    codes = [one for one in graphs[0] if isinstance(one, Tensor) and one.dtype == FLOAT8]
    assert codes
    assert all(hasattr(one, "_dynamo_static_input_type") for one in codes)


def test_a_second_model_is_compiled_for_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the number of images is unknown to a program; those of weights are not."""
    monkeypatch.setattr(reducing, "has_float8", lambda _: True)
    torch._dynamo.reset()
    config = tiny.checkpoint("vit").config
    for width in (32, 64):
        image = replace(config.image, width=width, heads=2)  # type: ignore[type-var]
        runtime = reduced(kernels="compiled", model=random_model(replace(config, image=image)))
        unknown: list[int] = []

        def backend(graph: Any, inputs: Any, found: list[int] = unknown) -> Any:
            given = [
                node.meta["example_value"] for node in graph.graph.find_nodes(op="placeholder")
            ]
            tensors = [one for one in given if isinstance(one, Tensor)]
            found.append(sum(any(isinstance(n, torch.SymInt) for n in x.shape) for x in tensors))
            return graph.forward

        runtime._compiled = CompiledTowers(backend)
        for count in (1, 3):
            runtime.image(tiny.pixels(tiny.checkpoint("vit"), count))
        assert unknown == [1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch's own imports
def test_the_real_compiler_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducing, "has_float8", lambda _: True)
    torch._dynamo.reset()
    runtime, plain = reduced(kernels="compiled"), reduced()
    pixels = tiny.pixels(tiny.checkpoint("vit"), 5)
    for count in (1, 3, 5):
        found, wanted = runtime.image(pixels[:count]), plain.image(pixels[:count])
        assert F.cosine_similarity(found.float(), wanted.float()).min() > 0.999


def test_where_it_does_not_run_it_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"NVIDIA GPUs .* not on cpu; use \"bf16\" here, \"int8\""
    ):
        reduced(kernels="auto")
    model = copy.deepcopy(tiny.model(tiny.checkpoint()))
    layers = Float8Layers(frozenset(), NO_REPORT)
    with pytest.raises(ConfigError, match=r"fp8 layers are those of a model in bf16, but .* fp32"):
        Runtime(model, quantisation=layers)


def test_layers_that_the_model_lacks_are_refused() -> None:
    model = copy.deepcopy(tiny.model(tiny.checkpoint())).bfloat16()
    layers = Float8Layers(frozenset({"image.blocks.99.mlp.up"}), NO_REPORT)
    with pytest.raises(ConfigError, match=r"no layer 'image.blocks.99.mlp.up', which is fp8"):
        Runtime(model, quantisation=layers)


@pytest.mark.parametrize(
    ("kernels", "chosen"), [("plain", "plain"), ("auto", "fp8"), ("compiled", "by torch.compile,")]
)
def test_it_is_described(kernels: Any, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reducing, describing):
        monkeypatch.setattr(module, "has_float8", lambda _: kernels != "plain")
    runtime = reduced(kernels=kernels)
    first, *_, last = runtime.describe()
    assert first.chosen.startswith("fp8, 0 of 0 linear layers in bf16")
    assert chosen in last.chosen
    assert kernels != "plain" or "slower than bf16" in last.why
    none = Runtime(
        runtime.model, kernels=kernels, quantisation=Float8Layers(frozenset(), NO_REPORT)
    )
    kept = none.describe()[-1]
    assert kept.why == "all its layers are kept in bf16"
    assert kept.chosen == ("compiled by torch.compile" if kernels == "compiled" else "plain")
