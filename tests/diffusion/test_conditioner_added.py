"""Textual inversions and LoRAs added to a conditioner."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ecliptic.diffusion import Conditioner, conditioner
from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.errors import ConfigError, ShapeError
from tests.adapters import files as adapters
from tests.diffusion import pipelines


def fresh(family: str) -> Conditioner:
    return conditioner(family, encoders=pipelines.encoders(family), any_size=True)


def inversion(path: Path, width: int = 32, count: int = 2, name: str = "trained") -> Path:
    return adapters.save(path, adapters.a1111(adapters.vectors(count, width), name))


def test_an_inversion_is_its_vectors_in_every_dialect(tmp_path: Path) -> None:
    made = fresh("sd1")
    (found,) = made.add_inversion(inversion(tmp_path / "trained.pt"))
    for dialect, text in (
        ("plain", "a trained cat"),
        ("a1111", "a (trained:1.0) cat"),
        ("comfyui", "a embedding:trained cat"),
        ("compel", "a trained cat"),
    ):
        rows = made(text, dialect=dialect).ledger.rows  # type: ignore[arg-type]
        assert [row.inversion for row in rows] == [False, True, True, False], dialect
    plain = fresh("sd1")("a trained cat").tokens
    changed = made("a trained cat").tokens
    assert plain is not None
    assert changed is not None
    assert not torch.allclose(plain[:, 2:], changed[:, 2:], atol=1e-3)
    tower = made.encoders[0].tower
    ids = torch.full((1, 77), 49407)
    ids[0, :5] = torch.tensor([49406, 320, 0, 0, 2368])
    embedded = tower.token_embedding(ids)
    embedded[0, 2:4] = found.vectors[""]
    wanted = tower.outputs(ids, embedded=embedded).sequence
    assert wanted is not None
    torch.testing.assert_close(changed, wanted.detach(), atol=2e-5, rtol=0)


def test_inversions_that_fit_nothing_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    made = fresh("sd1")
    with pytest.raises(ShapeError, match="40 values per vector"):
        made.add_inversion(inversion(tmp_path / "wide.pt", width=40))
    made.add_inversion(inversion(tmp_path / "trained.pt"))
    with pytest.raises(ConfigError, match="already called 'trained'"):
        made.add_inversion(inversion(tmp_path / "again.pt"))
    assert list(made.identity()["inversions"]) == ["trained"]


def lora(path: Path, prefix: str = "lora_te_") -> Path:
    modules = ["encoder.layers.0.self_attn.q_proj", "encoder.layers.1.mlp.fc1"]
    generator = torch.Generator().manual_seed(5)
    tensors = {}
    for module, out in zip(modules, (32, 64), strict=True):
        key = f"{prefix}text_model_{module.replace('.', '_')}"
        tensors[f"{key}.lora_down.weight"] = torch.randn(4, 32, generator=generator)
        tensors[f"{key}.lora_up.weight"] = torch.randn(out, 4, generator=generator)
        tensors[f"{key}.alpha"] = torch.tensor(2.0)
    save_file(tensors, path)
    return path


def test_a_lora_is_merged_scaled_and_taken_out_exactly(tmp_path: Path) -> None:
    encoders = pipelines.encoders("sd1")
    made = conditioner("sd1", encoders, any_size=True, kernels="plain")  # the same bits each time
    before, identity = made("a cat").tokens, made.identity()
    (report,) = made.add_lora(lora(tmp_path / "style.safetensors"), scale=0.7)
    assert len(report.applied) == 2
    merged = made("a cat").tokens
    assert before is not None
    assert merged is not None
    assert not torch.allclose(before, merged, atol=1e-3)
    assert made.identity() != identity
    made.rescale_lora("style", 0.0)
    zero = made("a cat").tokens
    assert zero is not None
    torch.testing.assert_close(zero, before, atol=1e-6, rtol=0)
    made.remove_lora("style")
    after = made("a cat").tokens
    assert after is not None
    assert torch.equal(after, before)
    assert made.identity() == identity
    with pytest.raises(ConfigError, match="no LoRA 'style'"):
        made.remove_lora("style")


def test_a_lora_for_another_encoder_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    made = fresh("sd1")
    identity = made.identity()
    with pytest.raises(ConfigError, match="changes no layer of the text encoders"):
        made.add_lora(lora(tmp_path / "g.safetensors", "lora_te2_"))
    assert made.identity() == identity


def test_keys_of_a_lora_without_effect_are_counted_and_named(tmp_path: Path) -> None:
    file = lora(tmp_path / "x.safetensors")
    tensors = load_file(file)
    layer = "lora_te_text_model_encoder_layers_9_mlp_fc1"
    tensors[f"{layer}.lora_up.weight"], tensors[f"{layer}.lora_down.weight"] = (
        torch.ones(64, 2),
        torch.ones(2, 32),
    )
    tensors["lora_te_text_model_encoder_layers_3_mlp_fc2.oft_blocks"] = torch.ones(4, 8, 8)
    tensors["lora_te_text_model_surprise.alpha"] = torch.ones(())
    tensors["lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight"] = torch.ones(4, 2)
    tensors["lora_te2_text_model_encoder_layers_0_mlp_fc1.diff_b"] = torch.ones(64)
    tensors["lora_unet_x.lora_up.weight"] = torch.ones(4, 2)
    save_file(tensors, file)
    made = fresh("sd1")
    with pytest.warns(ConditioningWarning, match=r"^5 keys of .*x.safetensors have no") as caught:
        made.add_lora(file)
    (message,) = [str(one.message) for one in caught]
    for part in (
        "layers_9_mlp_fc1.lora_down.weight (the encoder has 5 blocks, none numbered 9)",
        "oft_blocks (OFT or BOFT, which cannot be merged",
        "surprise.alpha (CLIP's text encoder has no such layer",
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q.lora_up.weight (for a T5, into which",
        "layers_0_mlp_fc1.diff_b (for clip_g, which ",
    ):
        assert part in message
    assert "unet" not in message


def test_a_lora_of_an_unsupported_method_is_not_blamed_on_another_model(tmp_path: Path) -> None:
    key = "lora_te_text_model_encoder_layers_{}_mlp_fc1.oft_blocks"
    file = tmp_path / "oft.safetensors"
    save_file({key.format(i): torch.ones(4, 8, 8) for i in range(5)}, file)
    with pytest.raises(ConfigError, match=r"and 2 more \(OFT or BOFT, which cannot") as error:
        fresh("sd1").add_lora(file)
    assert "another model" not in str(error.value)


def test_a_lora_has_a_strength_for_each_block_and_encoder(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(
        {
            f"lora_te{n}_text_model_encoder_layers_{i}_mlp_fc1.diff_b": torch.ones(width)
            for n, width in ((1, 64), (2, 96))
            for i in range(5)
        }
        | {"lora_te1_text_model_final_layer_norm.b_norm": torch.ones(32)},
        file,
    )
    made = fresh("sdxl")
    towers = [one.tower for one in made.encoders]
    before = [
        {name: tensor.clone() for name, tensor in tower.state_dict().items()} for tower in towers
    ]

    def added(tower: int, name: str) -> float:
        now = towers[tower].state_dict()[name]
        return round(float((now - before[tower][name]).mean()), 5)

    blocks = [0.1, 0.2, 0.3, 0.4, 0.5]
    made.add_lora(file, {"clip_l": blocks, "clip_g": 0.7}, name="x")
    assert [added(0, f"blocks.{i}.mlp.up.bias") for i in range(5)] == blocks
    assert added(0, "ln_final.bias") == 0.5
    assert [added(1, f"blocks.{i}.mlp.up.bias") for i in range(5)] == [0.7] * 5
    identity = made.identity()
    assert [each["loras"][0][1] for each in identity["encoders"]] == [blocks, 0.7]
    made.rescale_lora("x", 2.0)
    assert made.identity() != identity
    with pytest.raises(ConfigError, match="has 3 numbers, but clip_g has 5 blocks"):
        made.rescale_lora("x", {"clip_g": [1.0, 2.0, 3.0]})
    assert added(0, "blocks.0.mlp.up.bias") == added(1, "blocks.0.mlp.up.bias") == 2.0
    for wrong in ({"t5": 1.0}, float("nan"), [1.0, float("inf"), 1.0, 1.0, 1.0]):
        with pytest.raises(ConfigError, match=r"must be|finite"):
            made.rescale_lora("x", wrong)  # type: ignore[arg-type]
    made.remove_lora("x")
    for tower, old in zip(towers, before, strict=True):
        assert all(torch.equal(tensor, old[name]) for name, tensor in tower.state_dict().items())


def test_an_inversion_is_removed_and_its_name_is_words_again(tmp_path: Path) -> None:
    made = fresh("sdxl")
    plain, identity = made("a trained cat").tokens, made.identity()
    assert plain is not None
    for _ in range(2):  # the name is free again
        file = adapters.save(
            tmp_path / "trained.safetensors",
            {"clip_l": adapters.vectors(2, 32), "clip_g": adapters.vectors(2, 40)},
        )
        made.add_inversion(file)
        changed = made("a trained cat").tokens
        assert changed is not None
        assert not torch.equal(changed, plain)
        made.remove_inversion("trained")
        after = made("a trained cat").tokens
        assert after is not None
        assert torch.equal(after, plain)
        assert made.identity() == identity
    with pytest.raises(ConfigError, match=r"no inversion 'trained' is added; .* are: none"):
        made.remove_inversion("trained")


def test_of_a_bundle_what_fits_is_added_and_the_rest_is_named(tmp_path: Path) -> None:
    tensors = {
        "bundle_emb.good.clip_l": adapters.vectors(2, 32),
        "bundle_emb.other.clip_g": adapters.vectors(2, 40),
        "bundle_emb.wide.string_to_param.*": adapters.vectors(2, 48),
    }
    file = adapters.save(tmp_path / "x.safetensors", tensors)
    made = fresh("sd1")
    with pytest.warns(ConditioningWarning, match="2 of the 3 inversions in .* fit no") as caught:
        added = made.add_inversion(file)
    (message,) = [str(one.message) for one in caught]
    assert "'other'" in message
    assert "'wide'" in message
    assert [one.token for one in added] == ["good"] == list(made.identity()["inversions"])
    del tensors["bundle_emb.good.clip_l"]
    with pytest.raises(ConfigError, match=r"'other' of .* has vectors for clip_g, but"):
        fresh("sd1").add_inversion(adapters.save(tmp_path / "y.safetensors", tensors))
