"""Every form of a block gives the numbers of the plain towers, and of the weights as they are."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import ecliptic
from ecliptic.errors import ConfigError
from ecliptic.model import Activation, TwoTowers, random_model
from ecliptic.runtime import Runtime
from ecliptic.runtime.kernels import packed as packed_module
from ecliptic.runtime.kernels.operators import can_pack
from ecliptic.runtime.kernels.packed import PackedBlock
from tests import tiny
from tests.engine.models import save
from tests.runtime.kernels.forced import force, forced

KINDS = ["vit", "odd", "cut"]
needs_packing = pytest.mark.skipif(
    not can_pack(torch.float32), reason="this PyTorch has no packed linear layers"
)
pytestmark = needs_packing


def make(kind: str = "vit", activation: Activation = "quick_gelu") -> TwoTowers:
    return copy.deepcopy(tiny.model(tiny.checkpoint(kind, activation)))


def error(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_blocks_give_the_numbers_of_the_towers(
    kind: str, activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.checkpoint(kind, activation)
    model = tiny.model(made)
    runtime = forced(monkeypatch, model, "packed")
    pixels, tokens = tiny.pixels(made, 3), tiny.tokens(made)
    with torch.no_grad():
        assert error(runtime.image(pixels), model.encode_image(pixels)) < 1e-5
        assert error(runtime.text(tokens), model.encode_text(tokens)) < 1e-5
        hidden = model.image_tower.sequence(pixels, layer=-2, final_norm=False)
        assert error(runtime.image_sequence(pixels), hidden) < 1e-5
        for layer in (0, 1, -2, -1):
            found = runtime.text_outputs(tokens, layer=layer)
            wanted = model.text_tower.outputs(tokens, layer=layer)
            for part in ("sequence", "pooled", "vectors"):
                assert error(getattr(found, part), getattr(wanted, part)) < 1e-5
    assert runtime._image._packed  # it was not the plain form that gave them
    assert runtime._text._packed


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heads=st.integers(1, 3),
    head=st.integers(4, 17),
    hidden=st.integers(1, 70),
    depth=st.integers(1, 3),
    batch=st.integers(1, 5),
    quick=st.booleans(),
)
def test_packed_blocks_of_any_size_give_the_numbers_of_the_towers(
    monkeypatch: pytest.MonkeyPatch,
    heads: int,
    head: int,
    hidden: int,
    depth: int,
    batch: int,
    quick: bool,
) -> None:
    sizes: dict[str, Any] = {"width": heads * head, "heads": heads, "mlp": hidden, "depth": depth}
    sizes["activation"] = "quick_gelu" if quick else "gelu"
    base = tiny.CONFIGS["vit"]
    assert base.text
    config = replace(base, image=replace(tiny.VIT, **sizes), text=replace(base.text, **sizes))
    model = random_model(config).eval()
    runtime = forced(monkeypatch, model, "packed")
    pixels = torch.randn(batch, 3, 32, 32)
    tokens = tiny.tokens(tiny.checkpoint("vit"))[torch.arange(batch) % 3]
    with torch.no_grad():
        assert error(runtime.image(pixels), model.encode_image(pixels)) < 1e-5
        assert error(runtime.text(tokens), model.encode_text(tokens)) < 1e-5


@pytest.mark.parametrize("kernel", ["plain", "packed"])
def test_companions_change_a_vector_only_by_rounding(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny.checkpoint("vit")
    runtime = forced(monkeypatch, make(), kernel)
    pixels, tokens = tiny.pixels(made, 40), tiny.tokens(made)
    whole = runtime.image(pixels)
    alone = torch.cat([runtime.image(pixel[None]) for pixel in pixels])
    assert float(F.cosine_similarity(whole, alone).min()) > 1 - 1e-6
    alone = torch.cat([runtime.text(row[None]) for row in tokens])
    assert float(F.cosine_similarity(runtime.text(tokens), alone).min()) > 1 - 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_widened_blocks_are_nearer_to_the_stored_weights_than_plain_ones(
    dtype: torch.dtype, activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.runtime.kernels.packed.can_pack", lambda dtype: False)
    made = tiny.checkpoint("vit", activation)
    stored = make("vit", activation).to(dtype)
    exact = copy.deepcopy(stored).double()
    pixels, tokens = tiny.pixels(made, 24).to(dtype), tiny.tokens(made)
    runtime = forced(monkeypatch, stored, "widened")
    plain = Runtime(stored)
    with torch.no_grad():
        for mine, theirs, wanted in (
            (runtime.image(pixels), plain.image(pixels), exact.encode_image(pixels.double())),
            (runtime.text(tokens), plain.text(tokens), exact.encode_text(tokens)),
        ):
            assert mine.dtype == dtype
            assert (mine - wanted).norm() < (theirs - wanted).norm()
    assert runtime.image_sequence(pixels).dtype == dtype
    outputs = runtime.text_outputs(tokens, layer=-2)
    assert outputs.sequence is not None
    assert outputs.sequence.dtype == dtype


def test_a_mask_reaches_widened_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecliptic.runtime.kernels.packed.can_pack", lambda dtype: False)
    stored, tokens = make().bfloat16(), tiny.tokens(tiny.checkpoint("vit"))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[:, 1] = False
    wanted = copy.deepcopy(stored).double().text_tower.outputs(tokens, mask=mask).vectors
    runtime = forced(monkeypatch, stored, "widened")
    found = runtime.text_outputs(tokens, mask=mask).vectors
    assert found is not None
    assert wanted is not None
    assert error(found.double(), wanted.detach()) < 1e-2


def _change_in_place(model: TwoTowers) -> None:
    with torch.no_grad():
        for weight in model.image_tower.parameters():
            weight.mul_(0.9)


def _change_by_an_optimiser(model: TwoTowers) -> None:
    optimiser = torch.optim.SGD(model.parameters(), 0.01)
    model.encode_image(torch.ones(1, 3, 32, 32)).sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _replace_a_weight(model: TwoTowers) -> None:
    linear = model.image_tower.blocks[0].mlp.up  # type: ignore[union-attr, index]
    linear.weight = nn.Parameter(linear.weight * 2)  # type: ignore[union-attr, operator]


def _replace_a_layer(model: TwoTowers) -> None:
    block: Any = model.image_tower.blocks[1]  # type: ignore[union-attr, index]
    block.attention.out = nn.Sequential(block.attention.out, nn.LayerNorm(128))


def _replace_a_block(model: TwoTowers) -> None:
    model.image_tower.blocks[1] = copy.deepcopy(model.image_tower.blocks[0])  # type: ignore[union-attr, index, operator]


def _add_a_hook(model: TwoTowers) -> None:
    block: Any = model.image_tower.blocks[1]  # type: ignore[union-attr, index]
    block.attention.out.register_forward_hook(lambda module, given, found: found * 2)


def _replace_the_activation(model: TwoTowers) -> None:
    model.image_tower.blocks[1].mlp.activation = nn.ReLU()  # type: ignore[union-attr, index]


def _add_a_hook_to_the_mlp(model: TwoTowers) -> None:
    for block in model.image_tower.blocks:  # type: ignore[union-attr]
        block.mlp.register_forward_hook(lambda module, given, found: found * 2)


def _load_other_weights(model: TwoTowers) -> None:
    other = tiny.model(tiny.checkpoint("vit", seed=1))
    model.load_state_dict(other.state_dict())


@pytest.mark.parametrize(
    "change",
    [
        _change_in_place,
        _change_by_an_optimiser,
        _replace_a_weight,
        _replace_a_layer,
        _replace_a_block,
        _add_a_hook,
        _replace_the_activation,
        _add_a_hook_to_the_mlp,
        _load_other_weights,
    ],
)
@pytest.mark.parametrize("kernel", ["packed", "widened"])
def test_a_changed_model_is_computed_as_it_is(
    kernel: str, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = kernel == "widened"
    model, pixels = make("vit", "gelu"), torch.ones(2, 3, 32, 32)
    model = model.bfloat16() if wide else model
    runtime = forced(monkeypatch, model, kernel)
    before = runtime.image(pixels)
    change(model.float() if wide else model)
    with torch.no_grad():
        wanted = (model.float() if wide else model).encode_image(pixels)
    model = model.bfloat16() if wide else model
    assert error(before.float(), wanted) > 2e-2  # the change can be seen
    assert error(runtime.image(pixels).float(), wanted) < (2e-2 if wide else 1e-5)


def test_weights_written_in_place_after_mapping_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The pages of a mapped file are given back, but never those that were written."""
    made = tiny.checkpoint("vit")
    force(monkeypatch, "packed")
    clip = ecliptic.load(save(made, tmp_path / "vit"))
    other = tiny.model(tiny.checkpoint("vit", seed=1)).state_dict()
    clip.model.load_state_dict(other)
    for parameter in clip.model.parameters():
        parameter.data.mul_(1.5)  # torch does not count it
    pixels = tiny.pixels(made, 3)
    with torch.no_grad():
        wanted = clip.model.encode_image(pixels)
    assert error(clip.runtime.image(pixels), wanted) < 1e-5
    for name, weight in clip.model.state_dict().items():
        torch.testing.assert_close(weight, other[name] * 1.5)


def test_tensors_of_inference_mode_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        model = make()
        runtime, pixels = forced(monkeypatch, model, "packed"), torch.ones(2, 3, 32, 32)
        before = runtime.image(pixels)
        for weight in model.image_tower.blocks.parameters():  # type: ignore[union-attr]
            weight.mul_(0.5)
        wanted = model.encode_image(pixels)
        assert error(before, wanted) > 1e-3
        assert error(runtime.image(pixels), wanted) < 1e-5


def test_a_model_loaded_in_inference_mode_is_an_ordinary_one(tmp_path: Path) -> None:
    path = save(tiny.checkpoint("vit"), tmp_path / "vit")
    with torch.inference_mode():
        clip = ecliptic.load(path)
    assert not any(weight.is_inference() for weight in clip.model.parameters())


def test_other_defaults_of_torch_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, pixels = make().bfloat16(), torch.ones(2, 3, 32, 32)
    wanted = forced(monkeypatch, stored, "widened").image(pixels)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(forced(monkeypatch, stored, "widened").image(pixels), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_are_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = forced(monkeypatch, make(), "packed")
    pixels = torch.ones(2, 3, 32, 32)
    runtime.image(pixels)
    packs: list[Any] = []
    monkeypatch.setattr(packed_module, "pack", lambda *given: packs.append(given))
    runtime.image(pixels)
    assert not packs


def test_the_pages_of_a_mapped_file_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[int] = []
    monkeypatch.setattr(packed_module, "page_out", lambda weight: released.append(id(weight)))
    model = make()
    block: Any = model.image_tower.blocks[0]  # type: ignore[union-attr, index]
    form = PackedBlock(block)
    x = torch.randn(5, 128)
    form.mlp(form.out(form.qkv(form.norm(x))[:, :128], x))
    linears = (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down)
    assert released == [id(linear.weight) for linear in linears]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_runtime_with_packed_weights_can_be_copied(
    again: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, pixels = forced(monkeypatch, make(), "packed"), torch.ones(2, 3, 32, 32)
    wanted = runtime.image(pixels)
    assert torch.equal(again(runtime).image(pixels), wanted)


def test_gradients_do_not_go_through_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    runtime, tokens = forced(monkeypatch, model, "packed"), tiny.tokens(tiny.checkpoint("vit"))
    assert not runtime.image(torch.ones(1, 3, 32, 32)).requires_grad
    found = runtime.text_outputs(tokens).vectors
    assert found is not None
    assert not found.requires_grad


def test_plain_kernels_are_never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = force(monkeypatch, "packed")
    runtime = Runtime(make(), kernels="plain")
    runtime.image(torch.ones(1, 3, 32, 32))
    runtime.choose()
    assert not asked
    assert 'as kernels="plain" asks' in runtime.describe()[-1].why


def test_another_mode_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="kernels must be one of auto, plain, compiled, got 'quick'"
    ):
        Runtime(make(), kernels="quick")  # type: ignore[arg-type]
