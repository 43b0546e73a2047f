"""LoRAs are merged by the formula and removed exactly, in any order."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from ecliptic.adapters.lora import Lora, read_lora
from ecliptic.adapters.lora_stack import LoraStack
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.model import TextTower, WeightState
from tests import tiny
from tests.adapters.files import ALL, Pairs, Sizes, delta, kohya, pairs, peft, save
from tests.engine.models import reload

SIZES = Sizes(width=64, mlp=256, depth=3)  # of tiny's text tower
PARTS = {
    ("self_attn.q_proj", "attention.qkv.weight"): slice(0, 64),
    ("self_attn.k_proj", "attention.qkv.weight"): slice(64, 128),
    ("self_attn.v_proj", "attention.qkv.weight"): slice(128, 192),
    ("self_attn.out_proj", "attention.out.weight"): slice(None),
    ("mlp.fc1", "mlp.up.weight"): slice(None),
    ("mlp.fc2", "mlp.down.weight"): slice(None),
}


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    return reload(tiny.checkpoint("vit"), tmp_path / "clip")


@pytest.fixture
def tower(clip: Clip) -> TextTower:
    return clip.model.text_tower


def lora(folder: Path, made: Pairs, alpha: float | None = None, name: str = "x") -> Lora:
    return read_lora(save(folder / f"{name}.safetensors", kohya(made, alpha)))


def apply_formula(
    before: dict[str, Tensor], *changes: tuple[Pairs, float | None, float]
) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight after the formula is applied, module by module."""
    after = {name: tensor.clone() for name, tensor in before.items()}
    for made, alpha, scale in changes:
        for module, pair in made.items():
            _, _, _, block, inner = module.split(".", 4)
            [(name, rows)] = [(n, rows) for (m, n), rows in PARTS.items() if m == inner]
            after[f"blocks.{block}.{name}"][rows] += delta(pair, alpha, scale)
    yield from after.items()


def state(tower: TextTower) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tower.state_dict().items()}


def check(
    tower: TextTower, before: dict[str, Tensor], *changes: tuple[Pairs, float | None, float]
) -> None:
    now = tower.state_dict()
    for name, tensor in apply_formula(before, *changes):
        torch.testing.assert_close(now[name], tensor, rtol=0, atol=2e-6, msg=name)


def check_restored(tower: TextTower, before: dict[str, Tensor]) -> None:
    now = tower.state_dict()
    assert all(torch.equal(now[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    "inner",
    [
        ALL,
        ("self_attn.q_proj", "self_attn.v_proj"),
        ("self_attn.q_proj", "self_attn.v_proj", "mlp.fc1"),
        ("mlp.fc1", "mlp.fc2"),
    ],
    ids=lambda inner: f"{len(inner)} modules",
)
@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (2.0, 1.0), (8.0, 0.5), (4.0, -1.0)])
def test_every_module_of_a_file_is_merged_by_the_formula(
    inner: tuple[str, ...], alpha: float | None, scale: float, tower: TextTower, tmp_path: Path
) -> None:
    """Includes sets of modules with which diffusers fails or skips most (reference 1.7)."""
    before, made = state(tower), pairs(SIZES, inner)
    report = LoraStack(tower).add("x", lora(tmp_path, made, alpha), scale)
    check(tower, before, (made, alpha, scale))
    assert len(report.applied) == len(made)
    assert not report.unused


def test_ranks_and_alphas_may_differ_by_module(tower: TextTower, tmp_path: Path) -> None:
    before = state(tower)
    narrow, wide = pairs(SIZES, ALL[:2], rank=2), pairs(SIZES, ALL[2:], rank=8, seed=1)
    tensors = kohya(narrow, 1.0) | kohya(wide, 3.0)
    merged = read_lora(save(tmp_path / "x.safetensors", tensors))
    LoraStack(tower).add("x", merged)
    check(tower, before, (narrow, 1.0, 1.0), (wide, 3.0, 1.0))


def test_e10_removal_brings_back_the_very_parameters(
    clip: Clip, tower: TextTower, tmp_path: Path
) -> None:
    before, parameters = state(tower), dict(tower.named_parameters())
    card, texts = clip.card.space, clip.encode_text(["a cat"])
    stack = LoraStack(tower)
    stack.add("x", lora(tmp_path, pairs(SIZES)), 0.7)
    assert clip.card.space != card
    assert not torch.equal(clip.encode_text(["a cat"]), texts)
    stack.remove("x")
    assert all(a is b for a, b in zip(tower.parameters(), parameters.values(), strict=True))
    assert list(dict(tower.named_parameters())) == list(parameters)
    check_restored(tower, before)
    assert clip.card.space == card
    assert torch.equal(clip.encode_text(["a cat"]), texts)
    assert stack.scales == {}


def test_the_checkpoint_is_never_written_to(clip: Clip, tower: TextTower, tmp_path: Path) -> None:
    stored = {name: tensor.clone() for name, tensor in clip._checkpoint.weights.items()}
    stack = LoraStack(tower)
    stack.add("x", lora(tmp_path, pairs(SIZES)))
    stack.rescale("x", 2.0)
    for name, tensor in clip._checkpoint.weights.items():
        assert torch.equal(stored[name], tensor), name


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_e10_several_are_removed_exactly_in_any_order(
    order: tuple[str, ...], tower: TextTower, tmp_path: Path
) -> None:
    before, stack = state(tower), LoraStack(tower)
    made = {name: pairs(SIZES, ALL[i : i + 4], seed=i) for i, name in enumerate("abc")}
    files = {name: lora(tmp_path, each, name=name) for name, each in made.items()}
    for name, file in files.items():
        stack.add(name, file, 0.5)
    check(tower, before, *((each, None, 0.5) for each in made.values()))
    left = dict(made)
    for name in order:
        stack.remove(name)
        del left[name]
        check(tower, before, *((each, None, 0.5) for each in left.values()))
        alone = LoraStack(fresh := tiny.model(tiny.checkpoint("vit")).text_tower)
        for other in left:
            alone.add(other, files[other], 0.5)
        check_restored(tower, state(fresh))  # as if the removed one had never been merged
    check_restored(tower, before)


@settings(max_examples=20)
@given(scales=st.lists(st.floats(-4, 4), min_size=1, max_size=5))
def test_rescaling_leaves_nothing_of_earlier_scales(
    scales: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rescaled")
    file = lora(folder, pairs(SIZES, ALL[:1]))
    towers = [tiny.model(tiny.checkpoint("vit")).text_tower for _ in range(2)]
    many, once = map(LoraStack, towers)
    many.add("x", file)
    for scale in scales:
        many.rescale("x", scale)
    once.add("x", file, scales[-1])
    check_restored(towers[0], state(towers[1]))
    many.clear()
    check_restored(towers[0], state(tiny.model(tiny.checkpoint("vit")).text_tower))


@pytest.mark.parametrize("rescaled", [True, False])
def test_every_change_makes_another_card(
    rescaled: bool, clip: Clip, tower: TextTower, tmp_path: Path
) -> None:
    """Freed memory that is used again must not look like the earlier weights."""
    file, stack = lora(tmp_path, pairs(SIZES, ALL[:1], blocks=[0])), LoraStack(tower)
    plain, spaces, seen = clip.card.space, [], []
    for scale in range(1, 7):
        stack.add("x", file, float(scale))
        if rescaled:
            stack.rescale("x", scale + 0.5)
        spaces.append(clip.card.space)
        seen.append(WeightState.of(tower.parameters()))
        stack.remove("x")
        assert not any(state.holds(tower.parameters()) for state in seen)
    assert len({plain, *spaces}) == 7
    assert clip.card.space == plain


def test_half_precision_is_summed_in_float32(tower: TextTower, tmp_path: Path) -> None:
    tower.to(torch.bfloat16)
    before, made, stack = state(tower), pairs(SIZES), LoraStack(tower)
    stack.add("x", lora(tmp_path, made))
    wide = {name: tensor.float() for name, tensor in before.items()}
    now = tower.state_dict()
    for name, tensor in apply_formula(wide, (made, None, 1.0)):
        assert torch.equal(now[name], tensor.to(torch.bfloat16)), name
    stack.remove("x")
    check_restored(tower, before)


def test_a_tower_that_was_moved_comes_back_where_it_is(tower: TextTower, tmp_path: Path) -> None:
    before, stack = state(tower), LoraStack(tower)
    stack.add("x", lora(tmp_path, pairs(SIZES)))
    tower.to(torch.float64)
    stack.rescale("x", 0.5)
    check(tower, {n: t.double() for n, t in before.items()}, (pairs(SIZES), None, 0.5))
    stack.remove("x")
    check_restored(tower, {name: tensor.double() for name, tensor in before.items()})


def test_merging_works_under_inference_mode_and_keeps_gradients(
    tower: TextTower, tmp_path: Path
) -> None:
    stack = LoraStack(tower)
    with torch.inference_mode():
        stack.add("x", lora(tmp_path, pairs(SIZES)))
    weight = tower.get_parameter("blocks.0.mlp.up.weight")
    assert weight.requires_grad
    tower(torch.tensor([[49406, 320, 49407]])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_the_projection_is_changed_in_its_own_orientation(tower: TextTower, tmp_path: Path) -> None:
    up, down = torch.randn(32, 2), torch.randn(2, 64)
    tensors = {
        "lora_te_text_projection.lora_up.weight": up,
        "lora_te_text_projection.lora_down.weight": down,
    }
    assert tower.projection is not None
    before = tower.projection.detach().clone()  # (width, embed)
    LoraStack(tower).add("x", read_lora(save(tmp_path / "x.safetensors", tensors)))
    torch.testing.assert_close(tower.projection.detach(), before + (up @ down).T)


def test_each_part_takes_its_own_layers(tower: TextTower, tmp_path: Path) -> None:
    first, second = pairs(SIZES, seed=1), pairs(SIZES, ALL[:3], seed=2)
    dual = save(
        tmp_path / "x.safetensors",
        kohya(first, prefix="lora_te1_") | peft(second, "text_encoder_2."),
    )
    unnamed = save(tmp_path / "y.safetensors", kohya(first))
    before = state(tower)
    for part, path, made, options in (
        ("clip_l", dual, first, {}),
        ("clip_g", dual, second, {}),
        ("clip_h", dual, {}, {}),
        ("clip_l", unnamed, first, {}),
        ("clip_h", unnamed, first, {}),
        ("clip_g", unnamed, {}, {}),
        ("clip_g", unnamed, first, {"first": True}),
    ):
        stack, file = LoraStack(tower, part, **options), read_lora(path)
        report = stack.add("x", file)
        check(tower, before, (made, None, 1.0))
        assert (len(report.applied), report.elsewhere) == (len(made), len(file.layers) - len(made))
        stack.clear()


def test_layers_that_the_encoder_lacks_are_unused_and_named(
    tower: TextTower, tmp_path: Path
) -> None:
    before, deep = state(tower), pairs(SIZES, ("mlp.fc1",), blocks=(1, 2, 3, 11))
    report = LoraStack(tower).add("x", lora(tmp_path, deep))
    assert report.applied == ("blocks.1.mlp.up", "blocks.2.mlp.up")
    key = "lora_te_text_model_encoder_layers_11_mlp_fc1.lora_down.weight"
    assert report.unused[key] == "the encoder has 3 blocks, none numbered 11"
    assert len(report.unused) == 2
    check(tower, before, ({name: deep[name] for name in list(deep)[:2]}, None, 1.0))


def test_another_width_is_an_error_and_changes_nothing(tower: TextTower, tmp_path: Path) -> None:
    before, stack = state(tower), LoraStack(tower)
    wide = pairs(Sizes(width=96, mlp=384, depth=3))
    with pytest.raises(
        ShapeError, match=r"mlp_fc1.lora_down.*\(384, 96\).*\(256, 64\).*another model"
    ):
        stack.add("x", lora(tmp_path, wide))
    check_restored(tower, before)
    assert stack.scales == {}


def test_a_sum_that_overflows_is_an_error_and_changes_nothing(
    tower: TextTower, tmp_path: Path
) -> None:
    tower.half()
    before, stack = state(tower), LoraStack(tower)
    stack.add("x", lora(tmp_path, pairs(SIZES)), 0.0)
    with pytest.raises(NumericalError, match=r"in torch.float16 must be finite, .*smaller scale"):
        stack.rescale("x", 1e9)
    assert stack.scales == {"x": 0.0}
    check_restored(tower, before)


def test_names_and_scales_are_checked(tower: TextTower, tmp_path: Path) -> None:
    stack, file = LoraStack(tower), lora(tmp_path, pairs(SIZES))
    stack.add("x", file)
    for wrong, message in (
        (lambda: stack.add("x", file), "merged already"),
        (lambda: stack.add("y", file, float("nan")), "must be finite"),
        (lambda: stack.rescale("x", float("inf")), "must be finite"),
        (lambda: stack.remove("y"), "the merged ones are: 'x'"),
        (lambda: LoraStack(tower, "t5"), "clip_l, clip_h, clip_g"),
    ):
        with pytest.raises(ConfigError, match=message):
            wrong()
    assert stack.identity == ((file.sha256, 1.0),)


def test_training_a_merged_weight_is_not_silently_lost(tower: TextTower, tmp_path: Path) -> None:
    stack, other = LoraStack(tower), LoraStack(tower)
    file = lora(tmp_path, pairs(SIZES))
    stack.add("x", file)
    other.add("x", file)
    with pytest.raises(ConfigError, match="merged by another stack"):
        stack.remove("x")
    other.remove("x")
    with torch.no_grad():
        tower.get_parameter("blocks.0.mlp.up.weight").add_(1.0)
    with pytest.raises(ConfigError, match="was trained"):
        stack.rescale("x", 0.5)


def test_a_scale_that_is_no_number_is_refused_and_a_numpy_one_taken(
    tower: TextTower, tmp_path: Path
) -> None:
    stack, file = LoraStack(tower), lora(tmp_path, pairs(SIZES))
    for scale in ("0.8", None, [["1"]] * tower.config.depth):
        with pytest.raises(ConfigError, match="must be a number, or one for each block"):
            stack.add("x", file, scale)  # type: ignore[arg-type]
    stack.add("x", file, np.float32(0.5))  # type: ignore[arg-type]
    assert stack.identity == ((file.sha256, 0.5),)
