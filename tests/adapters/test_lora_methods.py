"""Every method gives what PEFT computes, or what LyCORIS' and ComfyUI's formulas say."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecliptic.adapters.lora import read_lora
from ecliptic.adapters.lora_stack import LoraStack
from ecliptic.errors import CorruptFileError, ShapeError, WeightsMismatchError
from tests import peers
from tests.adapters.files import save
from tests.adapters.test_lora_parity import check, load_into, model, tower
from tests.diffusion.pipelines import quiet

TARGETS = ["q_proj", "v_proj", "fc1", "fc2"]
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "dora": ("LoraConfig", {"r": 4, "lora_alpha": 6, "use_dora": True}),
    "dora-rs": ("LoraConfig", {"r": 4, "lora_alpha": 3, "use_dora": True, "use_rslora": True}),
    "bias": ("LoraConfig", {"r": 4, "lora_alpha": 6, "lora_bias": True}),
    "loha": ("LoHaConfig", {"r": 3, "alpha": 5, "rank_pattern": {"fc1": 2}}),
    "lokr": ("LoKrConfig", {"r": 2, "alpha": 5, "alpha_pattern": {"fc1": 3}}),
    "lokr-whole": ("LoKrConfig", {"r": 64, "alpha": 40, "rank_pattern": {"fc1": 70}}),
    "lokr-both": ("LoKrConfig", {"r": 1, "alpha": 3, "decompose_both": True}),
    "ia3": ("IA3Config", {"feedforward_modules": ["fc1", "fc2"]}),
}


def adapted(name: str, folder: Path, kind: str = "l") -> Any:
    """The encoder with an adapter of PEFT's own, saved into `folder` by PEFT."""
    library, theirs = peers.peft(), model(kind)
    made, options = CONFIGS[name]
    with quiet():
        config = getattr(library, made)(target_modules=TARGETS, **options)
        wrapped = library.get_peft_model(theirs, config).eval()
        generator = torch.Generator().manual_seed(5)
        for key, parameter in wrapped.named_parameters():
            if any(word in key for word in ("lora_", "hada_", "lokr_", "ia3_l")):
                noise = torch.randn(parameter.shape, generator=generator)
                around = parameter.data if "magnitude" in key or "ia3_l" in key else 0
                parameter.data = around + noise * 0.2
        wrapped.save_pretrained(str(folder))
    return wrapped


@pytest.mark.parametrize("name", CONFIGS)
def test_a_peft_adapter_of_every_method_gives_its_hidden_states(name: str, tmp_path: Path) -> None:
    theirs = adapted(name, tmp_path)
    check("l", theirs, tmp_path, 1.0)
    assert not read_lora(tmp_path).unused


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_dora_of_diffusers_follows_its_scale(scale: float, tmp_path: Path) -> None:
    """transformers loads magnitudes under this longer name only, and ours reads both."""
    folder = tmp_path / "peft"
    adapted("dora", folder)
    tensors = {
        key.replace("base_model.model.", "text_encoder.").replace("vector", "vector.weight"): tensor
        for key, tensor in load_file(folder / "adapter_model.safetensors").items()
    }
    file, theirs = save(tmp_path / "x.safetensors", tensors), model("l")
    load_into(theirs, file, scale, "text_encoder")
    check("l", theirs, file, scale)


# ---- files of LyCORIS and kohya, merged by formulas written out here

Q, FC1 = (
    "lora_te_text_model_encoder_layers_1_self_attn_q_proj",
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
)
GENERATOR = torch.Generator().manual_seed(11)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR) * 0.3


def lora(key: str, out: int, into: int) -> dict[str, Tensor]:
    return {
        f"{key}.lora_up.weight": draw(out, 4),
        f"{key}.lora_down.weight": draw(4, into),
        f"{key}.alpha": torch.tensor(2.0),
    }


def slots(key: str, **tensors: Tensor) -> dict[str, Tensor]:
    return {f"{key}.{slot.replace('__', '.')}": tensor for slot, tensor in tensors.items()}


Made = tuple[dict[str, Tensor], Callable[[Tensor, float], Tensor]]  # file, W and scale -> new W


def dora(by_row: bool) -> Made:
    tensors = lora(Q, 32, 32)
    lengths = draw(32, 1).abs() + 0.5 if by_row else draw(1, 32).abs() + 0.5
    tensors[f"{Q}.dora_scale"] = lengths
    up, down = tensors[f"{Q}.lora_up.weight"], tensors[f"{Q}.lora_down.weight"]

    def new(weight: Tensor, scale: float) -> Tensor:
        merged = weight + up @ down * (2.0 / 4)
        norm = merged.norm(dim=1, keepdim=True) if by_row else merged.norm(dim=0, keepdim=True)
        return weight + scale * (lengths * merged / norm - weight)

    return tensors, new


def loha(dora_scale: bool = False) -> Made:
    a, b, c, d = draw(32, 3), draw(3, 32), draw(32, 3), draw(3, 32)
    tensors = slots(Q, hada_w1_a=a, hada_w1_b=b, hada_w2_a=c, hada_w2_b=d, alpha=torch.tensor(6.0))
    lengths = draw(32, 1).abs() + 0.5
    if dora_scale:
        tensors |= slots(Q, dora_scale=lengths)

    def new(weight: Tensor, scale: float) -> Tensor:
        diff = (a @ b) * (c @ d) * 2.0
        if not dora_scale:
            return weight + scale * diff
        merged = weight + diff
        return weight + scale * (lengths * merged / merged.norm(dim=1, keepdim=True) - weight)

    return tensors, new


def loha_tucker() -> Made:
    one, two = draw(3, 3, 1, 1), draw(3, 3, 1, 1)
    a, b, c, d = draw(3, 32), draw(3, 32), draw(3, 32), draw(3, 32)
    tensors = slots(Q, hada_t1=one, hada_w1_a=a, hada_w1_b=b, hada_t2=two, hada_w2_a=c, hada_w2_b=d)

    def new(weight: Tensor, scale: float) -> Tensor:
        first, second = (
            torch.einsum("ijkl,ip,jr->prkl", core, left, right)[..., 0, 0]
            for core, left, right in ((one, a, b), (two, c, d))
        )
        return weight + scale * first * second

    return tensors, new


def lokr(whole_first: bool, whole_second: bool) -> Made:
    a, b, c, d = draw(4, 2), draw(2, 8), draw(8, 2), draw(2, 4)
    first = slots(Q, lokr_w1=a @ b) if whole_first else slots(Q, lokr_w1_a=a, lokr_w1_b=b)
    second = slots(Q, lokr_w2=c @ d) if whole_second else slots(Q, lokr_w2_a=c, lokr_w2_b=d)
    tensors = first | second | slots(Q, alpha=torch.tensor(5.0))
    factor = 1.0 if whole_first and whole_second else 5.0 / 2

    def new(weight: Tensor, scale: float) -> Tensor:
        left, right = a @ b, c @ d  # (4, 8), (8, 4)
        blocks = torch.einsum("ij,kl->ikjl", left, right).reshape(32, 32)
        return weight + scale * factor * blocks

    return tensors, new


def lokr_tucker() -> Made:
    w1, core, left, right = draw(4, 8), draw(2, 2, 1, 1), draw(2, 8), draw(2, 4)
    tensors = slots(Q, lokr_w1=w1, lokr_t2=core, lokr_w2_a=left, lokr_w2_b=right)

    def new(weight: Tensor, scale: float) -> Tensor:
        second = torch.einsum("ij,ip,jr->pr", core[..., 0, 0], left, right)
        return weight + scale * torch.einsum("ij,kl->ikjl", w1, second).reshape(32, 32)

    return tensors, new


def ia3(on_input: bool) -> Made:
    factors = draw(32)
    tensors = slots(Q, weight=factors, on_input=torch.tensor(int(on_input)))

    def new(weight: Tensor, scale: float) -> Tensor:
        rows = torch.diag(1 + scale * factors)
        return weight @ rows if on_input else rows @ weight

    return tensors, new


def glora(old: bool) -> Made:
    a1, a2, b1, b2 = draw(32, 3), draw(3, 32), draw(32, 3), draw(3, 32)
    names = ("a2", "a1", "b2", "b1") if old else ("a1", "a2", "b1", "b2")
    tensors = {
        f"{Q}.{name}.weight": t for name, t in zip(names, (a1, a2, b1, b2), strict=True)
    } | slots(Q, alpha=torch.tensor(1.5))

    def new(weight: Tensor, scale: float) -> Tensor:
        return weight + scale * 0.5 * (weight @ a1 @ a2 + b1 @ b2)

    return tensors, new


def difference() -> Made:
    diff = draw(32, 32)
    return slots(Q, diff=diff), lambda weight, scale: weight + scale * diff


FORMULAS: dict[str, Callable[[], Made]] = {
    "dora by row": lambda: dora(True),
    "dora by column": lambda: dora(False),
    "loha": loha,
    "loha with dora": lambda: loha(True),
    "loha tucker": loha_tucker,
    "lokr": lambda: lokr(True, False),
    "lokr both": lambda: lokr(False, False),
    "lokr first": lambda: lokr(False, True),
    "lokr whole": lambda: lokr(True, True),
    "lokr tucker": lokr_tucker,
    "ia3 inputs": lambda: ia3(True),
    "ia3 outputs": lambda: ia3(False),
    "glora": lambda: glora(False),
    "glora old": lambda: glora(True),
    "difference": difference,
}


@pytest.mark.parametrize("scale", [1.0, 0.5, -0.7])
@pytest.mark.parametrize("name", FORMULAS)
def test_files_of_lycoris_are_merged_by_its_formula_and_removed_exactly(
    name: str, scale: float, tmp_path: Path
) -> None:
    tensors, new = FORMULAS[name]()
    found = read_lora(save(tmp_path / "x.safetensors", tensors))
    assert not found.unused
    weights = tower("l")
    parameter = weights.get_parameter("blocks.1.attention.qkv.weight")
    before = parameter.detach().clone()
    stack = LoraStack(weights)
    assert stack.add("x", found, scale).applied == ("blocks.1.attention.q",)
    merged = weights.get_parameter("blocks.1.attention.qkv.weight").detach()
    torch.testing.assert_close(merged[:32], new(before[:32], scale), atol=2e-6, rtol=0)
    assert torch.equal(merged[32:], before[32:])
    once = merged.clone()
    stack.rescale("x", 2.5)
    stack.rescale("x", scale)
    assert torch.equal(weights.get_parameter("blocks.1.attention.qkv.weight"), once)
    stack.remove("x")
    assert weights.get_parameter("blocks.1.attention.qkv.weight") is parameter
    assert torch.equal(parameter, before)


def test_biases_and_norms_are_changed_too(tmp_path: Path) -> None:
    layer, last = "lora_te_text_model_encoder_layers_2_", "lora_te_text_model_final_layer_norm"
    made = {
        f"{layer}self_attn_k_proj.diff_b": ("blocks.2.attention.qkv.bias", draw(32)),
        f"{layer}layer_norm1.w_norm": ("blocks.2.ln_1.weight", draw(32)),
        f"{layer}layer_norm1.b_norm": ("blocks.2.ln_1.bias", draw(32)),
        f"{layer}layer_norm2.diff": ("blocks.2.ln_2.weight", draw(32)),
        f"{last}.w_norm": ("ln_final.weight", draw(32)),
        f"{last}.b_norm": ("ln_final.bias", draw(32)),
    }
    weights = tower("l")
    before = {name: tensor.clone() for name, tensor in weights.state_dict().items()}
    tensors = {key: tensor for key, (_, tensor) in made.items()}
    tensors |= lora(FC1, 64, 32) | {f"{FC1}.diff_b": draw(64)}
    stack = LoraStack(weights)
    report = stack.add("x", read_lora(save(tmp_path / "x.safetensors", tensors)), 0.5)
    assert not report.unused
    assert {"blocks.0.mlp.up", "blocks.0.mlp.up.bias", "ln_final"} <= set(report.applied)
    now = {name: tensor.clone() for name, tensor in weights.state_dict().items()}
    for name, diff in made.values():
        wanted = before[name].clone()
        view = wanted[32:64] if "qkv" in name else wanted
        view += 0.5 * diff
        torch.testing.assert_close(now[name], wanted, atol=1e-6, rtol=0)
    stack.clear()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.state_dict().items())


def test_open_clips_fused_attention_is_one_layer(tmp_path: Path) -> None:
    up, down = draw(96, 4), draw(4, 32)
    weights = tower("l")
    before = weights.get_parameter("blocks.1.attention.qkv.weight").detach().clone()
    for start in (
        "text_encoders.clip_l.transformer.resblocks.1.attn.in_proj",
        "clip_l.resblocks.1.attn.in_proj",
    ):
        tensors = {f"{start}.lora_up.weight": up, f"{start}.lora_down.weight": down}
        stack = LoraStack(weights)
        stack.add("x", read_lora(save(tmp_path / "x.safetensors", tensors)))
        merged = weights.get_parameter("blocks.1.attention.qkv.weight").detach()
        torch.testing.assert_close(merged, before + up @ down, atol=1e-6, rtol=0)
        stack.clear()


def test_several_methods_do_not_depend_on_each_other(tmp_path: Path) -> None:
    """Each changes the original weight, so the order and removal of others do not matter."""
    weights = tower("l")
    name = "blocks.1.attention.qkv.weight"
    files = {}
    for method in ("dora by row", "ia3 outputs", "loha"):
        tensors, _ = FORMULAS[method]()
        files[method] = read_lora(save(tmp_path / f"{method}.safetensors", tensors))
    stack = LoraStack(weights)
    before = weights.get_parameter(name).detach().clone()
    alone = []
    for method, file in files.items():
        stack.add(method, file, 0.7)
        alone.append(weights.get_parameter(name).detach().clone() - before)
        stack.remove(method)
    for method in reversed(files):
        stack.add(method, files[method], 0.7)
    together = weights.get_parameter(name).detach().clone()
    stack.clear()
    torch.testing.assert_close(together, before + sum(alone), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (
            slots(Q, hada_w1_a=draw(32, 3), hada_w1_b=draw(3, 32)),
            WeightsMismatchError,
            "no partner 'hada_w2_a'",
        ),
        (slots(Q, lokr_w1=draw(4, 4)), WeightsMismatchError, "no partner 'lokr_w2_a'"),
        (
            slots(Q, lokr_w1=draw(4, 4), lokr_w2=draw(4, 4)),
            ShapeError,
            r"\(16, 16\), but blocks.1.attention.q",
        ),
        (
            slots(Q, lokr_w1=draw(4, 8), lokr_w2_a=draw(8, 2), lokr_w2_b=draw(3, 4)),
            WeightsMismatchError,
            "different ranks",
        ),
        (slots(Q, ia3_l=draw(40, 1)), ShapeError, r"shape \(40, any\)"),
        (
            slots(Q, weight=draw(32) / 0, on_input=torch.tensor(1)),
            CorruptFileError,
            "must be finite",
        ),
        (slots(Q, on_input=torch.tensor(1)), WeightsMismatchError, "no partner 'weight'"),
        (slots(Q, diff=draw(32)), ShapeError, r"shape \(32,\)"),
        (slots(Q, diff_b=draw(31)), ShapeError, r"shape \(31,\), but blocks.1.attention.q.bias"),
        (
            lora(Q, 32, 32) | slots(Q, dora_scale=draw(9, 1)),
            WeightsMismatchError,
            r"\(32, 1\) or \(1, 32\)",
        ),
        (slots(Q, a1__weight=draw(32, 2)), WeightsMismatchError, "no partner 'a2'"),
        (
            slots(
                Q,
                hada_w1_a=draw(32, 3),
                hada_w1_b=draw(3, 32),
                hada_w2_a=draw(31, 3),
                hada_w2_b=draw(3, 32),
            ),
            WeightsMismatchError,
            "two halves",
        ),
    ],
)
def test_damaged_parts_are_named(
    tensors: dict[str, Tensor], error: type[Exception], message: str, tmp_path: Path
) -> None:
    weights = tower("l")
    with pytest.raises(error, match=message):
        LoraStack(weights).add("x", read_lora(save(tmp_path / "x.safetensors", tensors)))
