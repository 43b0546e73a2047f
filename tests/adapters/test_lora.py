"""LoRA files of every scheme give the same layers; unusable keys are reported."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ecliptic.adapters.lora import Lora, read_lora
from ecliptic.errors import (
    CorruptFileError,
    EclipticError,
    UnknownModelError,
    UnsupportedLayoutError,
    WeightsMismatchError,
)
from tests.adapters.files import (
    ALL,
    SCHEMES,
    Sizes,
    kohya,
    pairs,
    peft,
    save,
    without_prefix,
)

NATIVE = {
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.out_proj": "attention.out",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
SMALL = Sizes(depth=2)


def native(module: str) -> str:
    _, _, _, block, inner = module.split(".", 4)
    return f"blocks.{block}.{NATIVE[inner]}"


def layers_of(lora: Lora) -> dict[tuple[str, str], Tensor]:
    return {place: layer.delta(layer.up, 1.0) for place, layer in lora.layers.items()}


def read(path: Path, tensors: dict[str, Tensor], **metadata: str) -> Lora:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata or None)
    return read_lora(path)


def check(lora: Lora, part: str = "", factor: float = 1.0) -> None:
    """`lora` has exactly the pairs of SMALL, for `part`."""
    found = layers_of(lora)
    assert found.keys() == {(part, native(module)) for module in pairs(SMALL)}
    for module, (up, down) in pairs(SMALL).items():
        torch.testing.assert_close(found[part, native(module)], factor * (up @ down))


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_gives_the_same_layers(scheme: str, prefixed: bool, tmp_path: Path) -> None:
    tensors = SCHEMES[scheme](pairs(SMALL))
    if not prefixed:
        tensors = without_prefix(tensors)
    lora = read(tmp_path / "x.safetensors", tensors)
    check(lora)
    assert (lora.other, lora.unused, lora.notes, lora.parts) == ((), {}, (), ("",))


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda made: kohya(made, prefix="lora_te1_"), "clip_l"),
        (lambda made: kohya(made, prefix="lora_te2_"), "clip_g"),
        (lambda made: kohya(made, prefix="lora_prior_te_"), "clip_g"),
        (lambda made: peft(made, "text_encoder_2."), "clip_g"),
        (lambda made: peft(made, "base_model.model.text_encoder_2."), "clip_g"),
        (lambda made: peft(made, "text_encoder.base_model.model."), ""),
        (lambda made: peft(made, "base_model.model."), ""),
        (lambda made: without_prefix(peft(made, "base_model.model.")), ""),
        (lambda made: peft(made, "text_encoders.clip_g.transformer."), "clip_g"),
        (
            lambda made: {k.replace("lora_A", "lora_A.default"): v for k, v in peft(made).items()},
            "",
        ),
    ],
)
def test_prefixes_say_which_encoder(
    make: Callable[[Any], dict[str, Tensor]], part: str, tmp_path: Path
) -> None:
    check(read(tmp_path / "x.safetensors", make(pairs(SMALL))), part)


def test_the_projection_is_a_layer_too(tmp_path: Path) -> None:
    up, down = torch.randn(36, 2), torch.randn(2, 40)
    lora = read(
        tmp_path / "x.safetensors",
        {
            "lora_te2_text_projection.lora_up.weight": up,
            "lora_te2_text_projection.lora_down.weight": down,
            "text_encoder.text_projection.lora.up.weight": up,
            "text_encoder.text_projection.lora.down.weight": down,
        },
    )
    assert lora.layers.keys() == {("clip_g", "projection"), ("", "projection")}


@pytest.mark.parametrize(("alpha", "factor"), [(None, 1.0), (4.0, 1.0), (1.0, 0.25), (16.0, 4.0)])
def test_alpha_over_rank_scales(alpha: float | None, factor: float, tmp_path: Path) -> None:
    check(read(tmp_path / "x.safetensors", kohya(pairs(SMALL), alpha)), factor=factor)


def test_pickled_files_are_read(tmp_path: Path) -> None:
    check(read_lora(save(tmp_path / "x.bin", peft(pairs(SMALL)))))


def _folder(path: Path, **config: Any) -> Lora:
    save_file(peft(pairs(SMALL), "base_model.model."), path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4} | config))
    return read_lora(path)


def test_a_peft_folder_has_alpha_in_its_config(tmp_path: Path) -> None:
    check(_folder(tmp_path, lora_alpha=2), factor=0.5)
    check(_folder(tmp_path, lora_alpha=2, use_rslora=True), factor=2 / math.sqrt(4))


def test_an_alpha_pattern_holds_for_the_modules_it_names(tmp_path: Path) -> None:
    patterns = {"layers.1.mlp.fc1": 8, "q_proj": 12, "^text_model.encoder.layers.0.mlp.fc2": 20}
    lora = _folder(tmp_path, lora_alpha=4, alpha_pattern=patterns)
    alphas = {module: layer.alpha for (_, module), layer in lora.layers.items()}
    assert alphas["blocks.1.mlp.up"] == 8
    assert alphas["blocks.0.attention.q"] == alphas["blocks.1.attention.q"] == 12
    assert alphas["blocks.0.mlp.down"] == 20
    assert alphas["blocks.0.mlp.up"] == alphas["blocks.1.mlp.down"] == 4


def test_diffusers_metadata_is_by_component(tmp_path: Path) -> None:
    tensors = {**peft(pairs(SMALL)), **peft(pairs(SMALL), "text_encoder_2.")}
    metadata = {"text_encoder.lora_alpha": 2, "text_encoder_2.lora_alpha": 12, "unet.lora_alpha": 9}
    lora = read(tmp_path / "x.safetensors", tensors, lora_adapter_metadata=json.dumps(metadata))
    assert {part: layer.alpha for (part, _), layer in lora.layers.items()} == {"": 2, "clip_g": 12}


def test_settings_beside_the_file_change_its_digest(tmp_path: Path) -> None:
    assert _folder(tmp_path, lora_alpha=2).sha256 != _folder(tmp_path, lora_alpha=3).sha256


def test_denoisers_and_t5_are_counted_apart(tmp_path: Path) -> None:
    up, down = torch.ones(4, 2), torch.ones(2, 4)
    other = {
        "lora_unet_mid_block_x.lora_up.weight": up,
        "unet.up_blocks.0.x.lora_A.weight": up,
        "transformer.x.lora_A.weight": up,
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight": up,
        "lora_te2_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight": up,  # of FLUX
        "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight": down,
        "text_encoder_3.encoder.block.0.x.lora_A.weight": down,
        "bundle_emb.cat.clip_l": up,
    }
    lora = read(tmp_path / "x.safetensors", kohya(pairs(SMALL)) | other)
    check(lora)
    assert set(lora.other) == set(other)
    assert not lora.unused


def test_a_lora_of_a_denoiser_alone_says_that_nothing_is_for_the_text(tmp_path: Path) -> None:
    lora = read(tmp_path / "x.safetensors", {"lora_unet_x.lora_up.weight": torch.ones(4, 2)})
    assert lora.notes == ("nothing in it is for a text encoder",)
    assert (lora.layers, lora.parts) == ({}, ())


FIRST = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.mark.parametrize(
    ("extra", "reason", "lost"),
    [
        ({f"{FIRST}.lora_mid.weight": torch.ones(4, 4, 3, 3)}, "Tucker", True),
        ({f"{FIRST}.oft_blocks": torch.ones(4, 8, 8)}, "OFT or BOFT, which cannot", True),
        ({"lora_te_text_model_encoder_layers_0_mlp_fc9.alpha": torch.ones(1)}, "no such", False),
        ({"lora_te_text_model_final_layer_norm.alpha": torch.ones(1)}, "without its", False),
        ({"text_encoder.model.layers.0.q_proj.lora_A.weight": torch.ones(1)}, "no such", False),
        ({f"{FIRST}.surprise": torch.ones(1)}, "'surprise' is not a part", False),
        ({"elsewhere.lora_A.weight": torch.ones(1)}, "does not begin with a known encoder", False),
    ],
)
def test_keys_that_cannot_be_used_are_named_with_the_reason(
    extra: dict[str, Tensor], reason: str, lost: bool, tmp_path: Path
) -> None:
    lora = read(tmp_path / "x.safetensors", kohya(pairs(SMALL)) | extra)
    [key] = extra
    assert reason in lora.unused[key]
    assert len(lora.layers) == 2 * len(ALL) - lost
    assert len(lora.unused) == (
        3 if lost else 1
    )  # with DoRA and others, the pair of the module is unused too


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ({"oft_blocks": (4, 8, 8)}, "OFT"),
        ({"oft_R.weight": (4, 28)}, "OFT of PEFT"),
        ({"boft_R": (1, 4, 8, 8)}, "BOFT"),
        (
            {"lokr_w1": (4, 4), "lokr_w2_a": (2, 8), "lokr_w2_b": (2, 8), "lokr_t2": (2, 2, 3, 3)},
            "Tucker",
        ),
        ({"diff": (32, 32), "lokr_w1": (4, 4), "lokr_w2": (8, 8)}, "LoKr and a difference for one"),
        ({"diff_b": (32,), "lora_up.bias": (32,)}, "bias and diff_b for one layer"),
        ({"weight": (32, 32)}, "a whole weight instead"),
        ({"dora_scale": (32, 1)}, "the weight that it belongs to is missing"),
        ({"diff": (32, 32), "dora_scale": (32, 1)}, "DoRA, which is for"),
        ({"lora_up.weight": (32, 4, 1, 1), "lora_down.weight": (4, 32, 1, 1)}, "convolution"),
        ({"alpha": ()}, "without its matrices"),
    ],
)
def test_modules_of_other_methods_are_named(
    module: dict[str, tuple[int, ...]], method: str, tmp_path: Path
) -> None:
    tensors = {f"{FIRST}.{slot}": torch.ones(shape) for slot, shape in module.items()}
    rest = kohya(pairs(SMALL, ("mlp.fc1",)))
    lora = read(tmp_path / "x.safetensors", tensors | rest)
    assert lora.unused.keys() == tensors.keys()
    assert all(method in reason for reason in lora.unused.values())
    assert len(lora.layers) == 2


def _without(slot: str) -> dict[str, Tensor]:
    tensors = kohya(pairs(SMALL))
    del tensors[f"{FIRST}.{slot}"]
    return tensors


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        (_without("lora_up.weight"), WeightsMismatchError, "q_proj.lora_down.*no partner 'up'"),
        (_without("lora_down.weight"), WeightsMismatchError, "q_proj.lora_up.*no partner 'down'"),
        (
            kohya(pairs(SMALL)) | {f"{FIRST}.lora_up.weight": torch.ones(32, 3)},
            WeightsMismatchError,
            r"q_proj.lora_up.weight \(32, 3\).*ranks 3 and 4",
        ),
        (
            kohya(pairs(SMALL)) | {f"{FIRST}.lora_up.weight": torch.full((32, 4), math.nan)},
            CorruptFileError,
            "q_proj.lora_up.weight must be finite",
        ),
        (kohya(pairs(SMALL), math.inf), CorruptFileError, "alpha must be finite, got inf"),
        (
            kohya(pairs(SMALL)) | {f"{FIRST}.alpha": torch.ones(2)},
            WeightsMismatchError,
            r"alpha is \(2,\), not one number",
        ),
        (
            kohya(pairs(SMALL)) | {f"{FIRST}.lora_up.weight": torch.ones(32)},
            WeightsMismatchError,
            r"\(32,\), not a matrix",
        ),
        (
            kohya(pairs(SMALL)) | {f"{FIRST}.lora_up.weight": torch.ones(32, 4).int()},
            WeightsMismatchError,
            "int32",
        ),
        (kohya(pairs(SMALL)) | peft(pairs(SMALL)), WeightsMismatchError, "mean the same tensor"),
        ({"weight": torch.ones(2)}, WeightsMismatchError, "is not a LoRA: none of its 1 tensors"),
        ({}, WeightsMismatchError, "is not a LoRA"),
    ],
)
def test_files_that_are_wrong_say_where(
    tensors: dict[str, Tensor], error: type[EclipticError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read(tmp_path / "x.safetensors", tensors)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"peft_type": "OFT"}, UnsupportedLayoutError, "'OFT', not LORA, LOHA, LOKR, IA3"),
        ({"lora_alpha": "much"}, CorruptFileError, "alpha must be finite, got 'much'"),
        ({"lora_alpha": 1, "alpha_pattern": {"a|b": 2}}, UnsupportedLayoutError, "regular"),
        ({"lora_alpha": 1, "alpha_pattern": [1]}, CorruptFileError, "is not an object"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(
    config: dict[str, Any], error: type[EclipticError], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        _folder(tmp_path, **config)


def test_settings_that_are_no_json_are_corrupt(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="lora_adapter_metadata is not JSON"):
        read(tmp_path / "x.safetensors", kohya(pairs(SMALL)), lora_adapter_metadata="{")
    with pytest.raises(CorruptFileError, match="is a list, but must be a JSON object"):
        read(tmp_path / "x.safetensors", kohya(pairs(SMALL)), lora_adapter_metadata="[]")


def test_missing_files_and_pointers_say_so(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="check the path"):
        read_lora(tmp_path / "none.safetensors")
    with pytest.raises(UnknownModelError, match="adapter_model"):
        read_lora(tmp_path)
    pointer = tmp_path / "x.safetensors"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 12\n")
    with pytest.raises(CorruptFileError, match="Git LFS"):
        read_lora(pointer)
