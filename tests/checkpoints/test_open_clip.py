import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, Hints, read, write
from ecliptic.checkpoints.layouts.open_clip import mlp_ratio
from ecliptic.checkpoints.layouts.openai import choose_table
from ecliptic.errors import AmbiguousCheckpointError, UnsupportedLayoutError
from ecliptic.inputs import ImageSpec
from tests import peers, tiny

KINDS = ["vit", "resnet", "odd"]


def to_open_clip(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Give the weights open_clip's names."""
    resnet = checkpoint.config.image is not None and "image.pool.positions" in checkpoint.weights
    table = choose_table(["visual.attnpool."] if resnet else [])
    return {k: v.contiguous() for k, v in table.from_native(checkpoint.weights).items()}


def hints_for(checkpoint: Checkpoint) -> Hints:
    """The settings that a bare file of this checkpoint does not state."""
    image, text = checkpoint.config.image, checkpoint.config.text
    assert image
    assert text
    return Hints(
        activation=text.activation,
        heads=(image.heads, text.heads),
        image_spec=checkpoint.image_spec,
    )


@torch.no_grad()
def check_outputs(checkpoint: Checkpoint, model: Any) -> None:
    ours = tiny.model(checkpoint)
    pixels, tokens = tiny.pixels(checkpoint), tiny.tokens(checkpoint)
    pairs = (
        (ours.encode_image(pixels), model.encode_image(pixels)),
        (ours.encode_text(tokens), model.encode_text(tokens)),
    )
    for mine, other in pairs:
        torch.testing.assert_close(F.normalize(mine), F.normalize(other), atol=1e-5, rtol=0)


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_open_clip_loads_what_is_written_and_agrees(
    kind: str, activation: Any, tmp_path: Path
) -> None:
    checkpoint = tiny.checkpoint(kind, activation)
    write(checkpoint, tmp_path, "open_clip")
    model, preprocess = peers.open_clip().create_model_from_pretrained(f"local-dir:{tmp_path}")
    model.eval()
    check_weights(model.state_dict(), to_open_clip(checkpoint))
    check_outputs(checkpoint, model)
    assert checkpoint.image_spec
    assert preprocess.transforms[0].size == checkpoint.image_spec.size


def test_open_clip_prepares_images_as_the_spec_says(tmp_path: Path) -> None:
    spec = ImageSpec(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear", "squash")
    write(replace(tiny.checkpoint(), image_spec=spec), tmp_path, "open_clip")
    model = peers.open_clip().create_model_from_pretrained(
        f"local-dir:{tmp_path}", return_transform=False
    )
    assert model.visual.preprocess_cfg["resize_mode"] == "squash"
    assert model.visual.preprocess_cfg["interpolation"] == "bilinear"
    assert tuple(model.visual.image_mean) == spec.mean
    assert tuple(model.visual.image_std) == spec.std


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["bare", "nested", "distributed", "safetensors", "legacy"])
def test_every_form_of_a_bare_file_is_read(kind: str, form: str, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint(kind)
    state, path = to_open_clip(checkpoint), tmp_path / "epoch_3.pt"
    if form == "nested":
        tiny.save_state(path, state, epoch=3, optimizer={"state": {0: torch.ones(2)}})
    elif form == "distributed":
        tiny.save_state(path, {f"module.{k}": v for k, v in state.items()}, name="run", epoch=3)
    elif form == "safetensors":
        path = path.with_suffix(".safetensors")
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "bare")
    found = read(path, hints_for(checkpoint))
    assert found.layout == "open_clip"
    assert found.name == "epoch_3"
    if kind != "odd":  # its eps is not open_clip's default, which a bare file implies
        assert found.config == checkpoint.config
    check_weights(found.weights, checkpoint.weights)


def test_a_scale_of_one_element_is_the_same_scale(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    state = to_open_clip(checkpoint)
    state["logit_scale"] = state["logit_scale"].reshape(1)
    torch.save(state, tmp_path / "model.pt")
    found = read(tmp_path / "model.pt", hints_for(checkpoint))
    assert found.weights["logit_scale"].shape == ()
    assert torch.equal(found.weights["logit_scale"], checkpoint.weights["logit_scale"])


def test_a_model_with_its_own_text_tower_is_read(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit", "gelu")
    write(checkpoint, tmp_path / "plain", "open_clip")
    config = json.loads((tmp_path / "plain" / "open_clip_config.json").read_text())["model_cfg"]
    model = peers.open_clip().model.CustomTextCLIP(**config)
    torch.save(model.state_dict(), tmp_path / "custom.pt")
    found = read(tmp_path / "custom.pt", hints_for(checkpoint))
    assert any(name.startswith("text.transformer") for name in model.state_dict())
    check_outputs(found, model.eval())


def test_a_folder_with_one_file_and_no_config_is_that_file(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    torch.save(to_open_clip(checkpoint), tmp_path / "weights.pt")
    (tmp_path / "README.md").write_text("hello")
    assert read(tmp_path, hints_for(checkpoint)).config == checkpoint.config
    torch.save(to_open_clip(checkpoint), tmp_path / "other.pt")
    with pytest.raises(UnsupportedLayoutError, match=r"holds other\.pt, weights\.pt and no config"):
        read(tmp_path)


def test_hugging_face_repositories_with_both_configs_use_open_clips_own_weights(
    tmp_path: Path,
) -> None:
    write(tiny.checkpoint("vit", "gelu"), tmp_path / "a", "transformers")
    write(tiny.checkpoint("vit", "gelu"), tmp_path / "b", "open_clip")
    for file in (tmp_path / "b").iterdir():
        file.rename(tmp_path / "a" / file.name)
    assert read(tmp_path / "a").layout == "open_clip"
    (tmp_path / "a" / "open_clip_model.safetensors").unlink()
    assert read(tmp_path / "a").layout == "transformers"


def test_bare_files_say_what_they_do_not_tell(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    path = tmp_path / "model.pt"
    torch.save(to_open_clip(checkpoint), path)
    full = hints_for(checkpoint)
    with pytest.raises(AmbiguousCheckpointError, match=r"heads=\.\.\., or heads=\(image, text\)"):
        read(path, replace(full, heads=None))
    with pytest.raises(AmbiguousCheckpointError, match='activation="quick_gelu" or activation="g'):
        read(path, replace(full, activation=None))
    with pytest.raises(AmbiguousCheckpointError, match=r"image_spec=ImageSpec\(\.\.\.\)"):
        read(path, replace(full, image_spec=None))


@pytest.mark.parametrize(
    ("tower", "field", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "layers", [1, 2, 3]),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "hf_tokenizer_name", "t5"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "act_kwargs", {"approximate": "tanh"}),
    ],
)
def test_towers_of_another_kind_are_refused_by_field(
    tower: str, field: str, value: object, tmp_path: Path
) -> None:
    write(tiny.checkpoint(), tmp_path, "open_clip")
    path = tmp_path / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][tower][field] = value
    path.write_text(json.dumps(config))
    with pytest.raises(UnsupportedLayoutError, match=f"{tower}: {field} is "):
        read(tmp_path)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("logit_bias", "SigLIP"),
        ("visual.trunk.blocks.0.weight", "timm"),
        ("text_decoder.ln.weight", "captioning"),
        ("text.transformer.embeddings.word_embeddings.weight", "Hugging Face text tower"),
    ],
)
def test_other_kinds_of_model_are_refused_by_name(key: str, kind: str, tmp_path: Path) -> None:
    state = {**to_open_clip(tiny.checkpoint()), key: torch.zeros(1)}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UnsupportedLayoutError, match=kind):
        read(tmp_path / "model.pt", hints_for(tiny.checkpoint()))


def test_ratios_of_released_models_give_their_mlp_widths() -> None:
    for width, mlp in ((1408, 6144), (1664, 8192), (768, 3072), (48, 147), (7, 3), (1, 1)):
        assert int(width * mlp_ratio(width, mlp)) == mlp
