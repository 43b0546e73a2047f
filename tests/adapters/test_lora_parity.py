"""Merged text encoders give the same numbers as diffusers and PEFT with the same LoRA."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ecliptic.adapters.lora import read_lora
from ecliptic.adapters.lora_stack import LoraStack
from ecliptic.engine import load
from tests import peers
from tests.adapters.files import (
    SCHEMES,
    Pairs,
    Sizes,
    diffusers,
    kohya,
    pairs,
    peft,
    save,
)
from tests.diffusion.pipelines import ENCODERS, PARITY, encoder, quiet

PREFIX = {"l": "text_encoder", "g": "text_encoder_2"}
PART = {"l": "clip_l", "g": "clip_g"}


def sizes(kind: str) -> Sizes:
    text = ENCODERS[kind].config.text
    assert text
    return Sizes(text.width, text.mlp, text.depth)


def model(kind: str) -> Any:
    """A copy of the encoder in transformers, since loading changes it."""
    return copy.deepcopy(_model(kind))


@cache
def _model(kind: str) -> Any:
    text = ENCODERS[kind].config.text
    name = "CLIPTextModelWithProjection" if text and text.projection else "CLIPTextModel"
    return getattr(peers.transformers(), name).from_pretrained(encoder(kind)).eval()


@cache
def tower(kind: str) -> Any:
    """Our tower; every test removes the LoRAs that it merged."""
    return load(encoder(kind)).model.text_tower


@cache
def ids() -> Tensor:
    row = [49406, 320, 2368, 530, 2583, *[49407] * 72]
    return torch.tensor([row, [49406, *range(1000, 1075), 49407]])


def load_into(theirs: Any, file: Path, scale: float, prefix: str) -> None:
    """Load as `load_lora_weights` does for a text encoder; that function also needs a UNet."""
    pipeline = peers.diffusers().StableDiffusionXLPipeline
    peers.peft()
    with quiet():
        state, alphas, metadata = pipeline.lora_state_dict(
            str(file.parent), weight_name=file.name, return_lora_metadata=True
        )
        pipeline.load_lora_into_text_encoder(
            state, alphas, theirs, prefix=prefix, lora_scale=scale, metadata=metadata
        )


def check(kind: str, theirs: Any, file: Path, scale: float) -> None:
    """Check all hidden states and the vectors, and that the LoRA changes them."""
    stack = LoraStack(tower(kind), PART[kind])
    with torch.no_grad():
        plain = tower(kind).states(ids()).last
        stack.add("x", read_lora(file), scale)
        ours = tower(kind).states(ids())
        stack.clear()
        expected = theirs(ids(), output_hidden_states=True)
    for mine, other in zip(ours.hidden, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=PARITY)
    torch.testing.assert_close(ours.last, expected.last_hidden_state, rtol=0, atol=PARITY)
    if hasattr(expected, "text_embeds"):
        torch.testing.assert_close(ours.vectors, expected.text_embeds, rtol=0, atol=PARITY)
    assert (ours.last - plain).abs().max() > 100 * PARITY


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("rank", [2, 8])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_gives_diffusers_hidden_states(
    scheme: str, rank: int, scale: float, tmp_path: Path
) -> None:
    tensors = SCHEMES[scheme](pairs(sizes("l"), rank=rank))
    file, theirs = save(tmp_path / "x.safetensors", tensors), model("l")
    load_into(theirs, file, scale, "text_encoder")
    check("l", theirs, file, scale)


@pytest.mark.parametrize("alpha", [1.0, 16.0])
def test_kohyas_alpha_scales_as_in_diffusers(alpha: float, tmp_path: Path) -> None:
    file = save(tmp_path / "x.safetensors", kohya(pairs(sizes("l")), alpha))
    theirs = model("l")
    load_into(theirs, file, 1.0, "text_encoder")
    check("l", theirs, file, 1.0)


def _dual(left: Pairs, right: Pairs, scheme: str) -> dict[str, Tensor]:
    if scheme == "kohya":
        return kohya(left, 2.0, "lora_te1_") | kohya(right, 2.0, "lora_te2_")
    make = peft if scheme == "peft" else diffusers
    return make(left) | make(right, "text_encoder_2.")


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("scheme", ["kohya", "peft", "diffusers"])
def test_both_encoders_of_sdxl_get_their_own(scheme: str, scale: float, tmp_path: Path) -> None:
    tensors = _dual(pairs(sizes("l")), pairs(sizes("g"), seed=1), scheme)
    file = save(tmp_path / "x.safetensors", tensors)
    for kind, prefix in PREFIX.items():
        theirs = model(kind)
        load_into(theirs, file, scale, prefix)
        check(kind, theirs, file, scale)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_peft_adapter_of_the_encoder_gives_its_own_hidden_states(
    rslora: bool, tmp_path: Path
) -> None:
    """Saved by PEFT itself: `base_model.model.` before every key, alpha in the config."""
    library, theirs = peers.peft(), model("l")
    targets = ["q_proj", "v_proj", "fc1"]
    config = library.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=targets,
        use_rslora=rslora,
        rank_pattern={"fc1": 2},
        alpha_pattern={"layers.1.self_attn.q_proj": 10},
    )
    with quiet():
        adapted = library.get_peft_model(theirs, config).eval()
        generator = torch.Generator().manual_seed(5)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
        adapted.save_pretrained(str(tmp_path))
    check("l", adapted, tmp_path, 1.0)


def test_alpha_in_diffusers_metadata_scales_as_there(tmp_path: Path) -> None:
    file, made = tmp_path / "x.safetensors", pairs(sizes("l"))
    config = '{"text_encoder.r": 4, "text_encoder.lora_alpha": 10, "text_encoder.target_modules": '
    config += '["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]}'
    save_file(peft(made), file, {"lora_adapter_metadata": config, "format": "pt"})
    theirs = model("l")
    load_into(theirs, file, 1.0, "text_encoder")
    check("l", theirs, file, 1.0)


@pytest.mark.parametrize(
    ("scheme", "inner", "theirs_applied"),
    [
        ("kohya", ("self_attn.q_proj", "self_attn.v_proj"), None),
        ("kohya", ("self_attn.q_proj", "self_attn.v_proj", "mlp.fc1"), 5),
        ("peft", ("mlp.fc1", "mlp.fc2"), None),
    ],
)
def test_where_the_peer_fails_or_applies_a_part_ours_applies_all(
    scheme: str, inner: tuple[str, ...], theirs_applied: int | None, tmp_path: Path
) -> None:
    """None: it raises. `test_lora_stack` checks ours against the formula with the same modules."""
    made = pairs(sizes("l"), inner)
    file = save(tmp_path / "x.safetensors", SCHEMES[scheme](made))
    stack = LoraStack(tower("l"))
    report = stack.add("x", read_lora(file))
    stack.clear()
    assert len(report.applied) == len(made) == 5 * len(inner)
    theirs = model("l")
    if theirs_applied is None:
        with pytest.raises(ValueError, match="infer state dict type"):
            load_into(theirs, file, 1.0, "text_encoder")
        return
    load_into(theirs, file, 1.0, "text_encoder")
    ups = {name: p for name, p in theirs.named_parameters() if "lora_B" in name}
    assert sum(bool(up.any()) for up in ups.values()) == theirs_applied  # B starts as zeros
