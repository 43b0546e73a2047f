"""LoRAs that diffusers or PEFT put on our text encoder do what they do on transformers' own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion.text_encoder import as_text_encoder
from ecliptic.errors import ConfigError
from tests import peers
from tests.adapters import files as adapters
from tests.diffusion.pipelines import PARITY, quiet
from tests.diffusion.test_text_encoder import (
    KINDS,
    PROMPTS,
    clip,
    embeddings,
    ids,
    ours,
    theirs,
)

WIDTHS = {"l": (32, 64), "g": (40, 96)}


def sizes(kind: str) -> adapters.Sizes:
    width, mlp = WIDTHS[kind]
    return adapters.Sizes(width, mlp, depth=5)


def lora(family: str, scheme: str, folder: Path) -> Path:
    left = adapters.pairs(sizes("l"))
    if scheme == "kohya":
        tensors = adapters.kohya(left, 2.0, "lora_te_" if family == "sd1" else "lora_te1_")
    else:
        tensors = adapters.peft(left)
    if family == "sdxl":
        right = adapters.pairs(sizes("g"), seed=1)
        make: Any = adapters.kohya if scheme == "kohya" else adapters.peft
        tensors |= make(right, prefix="lora_te2_" if scheme == "kohya" else "text_encoder_2.")
    if scheme == "flat":
        tensors = {
            name.replace("text_encoder.text_model.", "text_encoder."): t
            for name, t in tensors.items()
        }
    return adapters.save(folder / "x.safetensors", tensors)


@pytest.mark.parametrize(
    ("family", "scheme"),
    [
        ("sd1", "kohya"),
        ("sdxl", "peft"),
        pytest.param("sd1", "peft", marks=pytest.mark.slow),
        pytest.param("sd1", "flat", marks=pytest.mark.slow),
        pytest.param("sdxl", "kohya", marks=pytest.mark.slow),
        pytest.param("sdxl", "flat", marks=pytest.mark.slow),
    ],
)
def test_load_lora_weights_gives_the_embeddings_of_transformers(
    family: str, scheme: str, tmp_path: Path
) -> None:
    peers.peft()
    file, mine, other = lora(family, scheme, tmp_path), ours(family), theirs(family)
    other.text_encoder.__dict__.pop("text_model", None)  # with it, diffusers looks for old names
    before = embeddings(mine, PROMPTS[0])
    for pipe in (mine, other):
        with quiet():
            pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name="style")
    found, wanted = embeddings(mine, PROMPTS[0]), embeddings(other, PROMPTS[0])
    for one, two, plain in zip(found, wanted, before, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=PARITY)
        assert plain.count_nonzero() == 0 or (one - plain).abs().max() > 100 * PARITY
    with quiet():
        mine.set_adapters(["style"], [0.5])
        other.set_adapters(["style"], [0.5])
    for one, two in zip(embeddings(mine, PROMPTS[0]), embeddings(other, PROMPTS[0]), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=PARITY)
    with quiet():
        mine.unload_lora_weights()
    for one, two in zip(embeddings(mine, PROMPTS[0]), before, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=PARITY)


def hidden(model: Any, kind: str) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids(kind), output_hidden_states=True).hidden_states[-2]
    return found


@KINDS
def test_fused_adapters_change_neither_the_clip_nor_its_file(kind: str) -> None:
    source = clip(kind)
    model, library = as_text_encoder(source), peers.peft()
    before, texts = hidden(model, kind), source.encode_text(["a cat"])
    config = library.LoraConfig(r=2, target_modules=["q_proj", "fc1"], init_lora_weights=False)
    with quiet():
        model.add_adapter(config, "style")
    assert type(model).__module__.startswith("transformers.")
    adapted = hidden(model, kind)
    assert (adapted - before).abs().max() > 100 * PARITY
    for layer in model.modules():
        if isinstance(layer, library.tuners.lora.Linear):
            layer.merge()
    torch.testing.assert_close(hidden(model, kind), adapted, rtol=0, atol=PARITY)
    assert torch.equal(source.encode_text(["a cat"]), texts)
    assert torch.equal(clip(kind).encode_text(["a cat"]), texts)


def test_peft_itself_is_told_what_to_do_instead() -> None:
    library, model = peers.peft(), as_text_encoder(clip("l"))
    with pytest.raises(ValueError, match=r"add_adapter\(config\).*Conditioner.add_lora"), quiet():
        library.get_peft_model(model, library.LoraConfig(r=2, target_modules=["q_proj"]))
    with pytest.raises(ConfigError, match="call the text encoder itself"):
        model.text_model.encoder.layers[0].mlp.fc1(torch.ones(1, 32))
