"""Textual inversions and LoRAs added to a conditioner."""

from pathlib import Path

import pytest
import torch

from ecliptic.diffusion import Conditioner, conditioner
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
    from safetensors.torch import save_file

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
    made = fresh("sd1")
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
