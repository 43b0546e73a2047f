import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, Hints, read, write
from ecliptic.checkpoints.layouts import transformers as layout
from ecliptic.errors import AmbiguousCheckpointError, UnsupportedLayoutError, WeightsMismatchError
from ecliptic.inputs import ImageSpec, Tokenizer, TokenizerSpec
from tests import peers, tiny
from tests.checkpoints.test_open_clip import check_weights

CLASSES = {
    "vit": "CLIPModel",
    "odd": "CLIPModel",
    "cut": "CLIPModel",
    "text": "CLIPTextModelWithProjection",
    "unprojected": "CLIPTextModel",
    "image": "CLIPVisionModelWithProjection",
}


def load(kind: str, folder: Path) -> Any:
    return getattr(peers.transformers(), CLASSES[kind]).from_pretrained(folder).eval()


def to_hugging_face(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Give the weights Hugging Face's names."""
    named = layout.TABLE.from_native(checkpoint.weights)
    return {name: tensor.contiguous().clone() for name, tensor in named.items()}


def change(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    values = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


@torch.no_grad()
def check_outputs(checkpoint: Checkpoint, model: Any) -> None:
    ours, pairs = tiny.model(checkpoint), []
    if checkpoint.config.text:
        tokens = tiny.tokens(checkpoint)
        output = getattr(model, "get_text_features", model)(tokens)
        found = getattr(output, "text_embeds", None)
        pairs.append((ours.encode_text(tokens), output.pooler_output if found is None else found))
    if checkpoint.config.image:
        pixels = tiny.pixels(checkpoint)
        output = getattr(model, "get_image_features", model)(pixels)
        found = getattr(output, "image_embeds", None)
        pairs.append((ours.encode_image(pixels), output.pooler_output if found is None else found))
    for mine, other in pairs:
        torch.testing.assert_close(F.normalize(mine), F.normalize(other), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_transformers_loads_what_is_written_and_agrees(
    kind: str, activation: Any, tmp_path: Path
) -> None:
    checkpoint = tiny.checkpoint(kind, activation)
    write(checkpoint, tmp_path, "transformers")
    model = load(kind, tmp_path)
    wanted = to_hugging_face(checkpoint)
    if kind == "unprojected":  # flattened since 5.6
        wanted = {name.removeprefix("text_model."): tensor for name, tensor in wanted.items()}
    check_weights(model.state_dict(), wanted)
    check_outputs(checkpoint, model)


@pytest.mark.parametrize("kind", CLASSES)
def test_what_transformers_writes_is_read_and_agrees(kind: str, tmp_path: Path) -> None:
    write(tiny.checkpoint(kind), tmp_path / "ours", "transformers")
    model = load(kind, tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs")
    for file in (tmp_path / "ours").iterdir():  # the tokenizer and the image processor
        if not (tmp_path / "theirs" / file.name).exists():
            file.rename(tmp_path / "theirs" / file.name)
    found = read(tmp_path / "theirs")
    assert found.config == tiny.checkpoint(kind).config
    assert found.tokenizer_spec == tiny.checkpoint(kind).tokenizer_spec
    check_outputs(found, model)


def test_shards_are_read(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "ours", "transformers")
    model = load("vit", tmp_path / "ours")
    model.save_pretrained(tmp_path / "theirs", max_shard_size="1MB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").exists()
    assert not (tmp_path / "theirs" / "model.safetensors").exists()
    check_outputs(read(tmp_path / "theirs", Hints(image_spec=ImageSpec(size=32))), model)


@pytest.mark.parametrize("kind", ["vit", "text", "unprojected", "image"])
@pytest.mark.parametrize("prefixed", [True, False])
def test_old_names_and_pickled_weights_are_read(kind: str, prefixed: bool, tmp_path: Path) -> None:
    """`position_ids` until 4.31; CLIPTextModel without `text_model.` since 5.6."""
    checkpoint = tiny.checkpoint(kind)
    write(checkpoint, tmp_path, "transformers")
    state = to_hugging_face(checkpoint)
    for tower in ("text_model", "vision_model"):
        if any(name.startswith(tower) for name in state):
            state[f"{tower}.embeddings.position_ids"] = torch.arange(9)[None]
    if not prefixed and kind != "vit":
        prefix = "vision_model." if kind == "image" else "text_model."
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    found = read(tmp_path)
    assert found.config == checkpoint.config
    assert any("position_ids" in note for note in found.notes)
    check_weights(found.weights, checkpoint.weights)


def test_the_legacy_end_of_text_is_repaired_with_a_note(tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path, "transformers")
    change(tmp_path / "config.json", eos_token_id=2, bos_token_id=0, pad_token_id=1)
    found = read(tmp_path)
    assert found.config == tiny.checkpoint("text").config
    assert any("eos_token_id 2" in note for note in found.notes)
    change(tmp_path / "config.json", eos_token_id=7)
    with pytest.raises(UnsupportedLayoutError, match="eos_token_id is 7"):
        read(tmp_path)


def test_a_config_without_activation_means_quick_gelu(tmp_path: Path) -> None:
    write(tiny.checkpoint("text", "gelu"), tmp_path, "transformers")
    change(tmp_path / "config.json", hidden_act=None)
    assert read(tmp_path).config == tiny.checkpoint("text", "quick_gelu").config
    change(tmp_path / "config.json", hidden_act="gelu_pytorch_tanh")
    with pytest.raises(UnsupportedLayoutError, match="hidden_act is 'gelu_pytorch_tanh'"):
        read(tmp_path)


def test_the_older_table_of_a_tower_wins_as_in_transformers(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path, "transformers")
    config = json.loads((tmp_path / "config.json").read_text())
    change(
        tmp_path / "config.json",
        text_config={"hidden_size": 1},
        text_config_dict=config["text_config"],
    )
    assert read(tmp_path).config == tiny.checkpoint().config


def test_an_image_encoder_without_projection_is_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint("image"), tmp_path, "transformers")
    state = to_hugging_face(tiny.checkpoint("image"))
    del state["visual_projection.weight"]
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsupportedLayoutError, match="without its projection"):
        read(tmp_path)


def test_c6_a_config_of_other_sizes_is_one_error(tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path, "transformers")
    change(tmp_path / "config.json", num_hidden_layers=4, intermediate_size=255)
    with pytest.raises(WeightsMismatchError) as caught:
        read(tmp_path)
    assert "k_proj.weight" in str(caught.value)
    assert "layers.2.mlp.fc1.bias is (256,), (255,) is needed" in str(caught.value)


def test_a_bare_file_asks_for_the_activation(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("unprojected")
    path = tmp_path / "clip_l.pt"
    torch.save(to_hugging_face(checkpoint), path)
    with pytest.raises(AmbiguousCheckpointError, match="activation="):
        read(path, Hints(heads=1))
    found = read(path, Hints(heads=1, activation="quick_gelu"))
    assert found.config == checkpoint.config
    assert found.tokenizer_spec
    assert found.tokenizer_spec.pad == 49407


@pytest.mark.parametrize(
    ("token", "pad"),
    [("!", 0), ("<|endoftext|>", 49407), ({"content": "!"}, 0), (None, 49407)],
)
def test_the_padding_is_read_from_the_tokenizer(token: Any, pad: int, tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path, "transformers")
    change(tmp_path / "tokenizer_config.json", pad_token=token, ecliptic_pad_id=None)
    change(tmp_path / "special_tokens_map.json", pad_token=token)
    found = read(tmp_path).tokenizer_spec
    assert found
    assert found.pad == pad


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path, "transformers")
    merges = (tmp_path / "merges.txt").read_text().split("\n")
    merges[5], merges[6] = merges[6], merges[5]
    (tmp_path / "merges.txt").write_text("\n".join(merges))
    with pytest.raises(UnsupportedLayoutError, match="merges are not CLIP's"):
        read(tmp_path)


def test_a_tokenizer_json_says_the_same_as_the_merge_list(tmp_path: Path) -> None:
    write(tiny.checkpoint("cut"), tmp_path / "ours", "transformers")
    tokenizer = peers.transformers().CLIPTokenizer.from_pretrained(tmp_path / "ours")
    for name in ("merges.txt", "vocab.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "ours" / name).unlink()
    tokenizer.save_pretrained(tmp_path / "ours")
    assert not (tmp_path / "ours" / "merges.txt").exists()
    found = read(tmp_path / "ours").tokenizer_spec
    assert found == tiny.CUT  # transformers keeps our field for the padding


@pytest.mark.parametrize("kind", ["vit", "cut"])
def test_the_processor_gives_the_same_tokens_and_sizes(kind: str, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint(kind)
    write(checkpoint, tmp_path, "transformers")
    processor = peers.transformers().CLIPProcessor.from_pretrained(tmp_path)
    texts = ["a photo of a cat!", "two dogs, 12 cats"]
    spec = checkpoint.tokenizer_spec
    assert spec
    ours = Tokenizer(spec)
    for text in texts:
        ids = [spec.start_of_text, *ours.encode(text), spec.end_of_text]
        assert processor.tokenizer(text)["input_ids"] == ids
    assert processor.tokenizer.model_max_length == spec.context
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    pixels = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("fields", "spec"),
    [
        ({"size": 32, "crop_size": 32}, ImageSpec(size=32)),
        ({"size": {"shortest_edge": 32}}, ImageSpec(size=32)),
        (
            {"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2},
            ImageSpec(size=32, resize="squash", interpolation="bilinear"),
        ),
        ({"image_mean": [0.5, 0.5, 0.5]}, ImageSpec(size=32, mean=(0.5, 0.5, 0.5))),
    ],
)
def test_image_processors_of_every_age_are_read(
    fields: dict[str, Any], spec: ImageSpec, tmp_path: Path
) -> None:
    write(tiny.checkpoint("image"), tmp_path, "transformers")
    change(tmp_path / "preprocessor_config.json", **fields)
    assert read(tmp_path).image_spec == spec


@pytest.mark.parametrize(
    "fields",
    [
        {"size": {"shortest_edge": 40}},
        {"size": {"height": 32, "width": 16}},
        {"resample": 0},
        {"do_normalize": False},
        {"image_mean": [0.5]},
    ],
)
def test_image_processors_that_do_something_else_are_refused(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    write(tiny.checkpoint("image"), tmp_path, "transformers")
    change(tmp_path / "preprocessor_config.json", **fields)
    with pytest.raises(UnsupportedLayoutError, match=next(iter(fields))):
        read(tmp_path)


def test_added_tokens_are_kept_and_noted(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("text")
    assert checkpoint.config.text
    text = replace(checkpoint.config.text, vocabulary=49410)
    table = torch.cat([checkpoint.weights["text.token_embedding.weight"], torch.ones(2, 64)])
    longer = replace(
        checkpoint,
        config=replace(checkpoint.config, text=text),
        weights={**checkpoint.weights, "text.token_embedding.weight": table},
    )
    write(longer, tmp_path, "transformers")
    found = read(tmp_path)
    assert found.config == longer.config
    assert found.tokenizer_spec == TokenizerSpec(context=16)


def test_what_a_config_leaves_out_is_what_transformers_takes() -> None:
    library = peers.transformers()
    text, image = library.CLIPTextConfig(), library.CLIPVisionConfig()
    for theirs, ours in layout.TEXT_FIELDS.items():
        assert getattr(layout.TEXT, ours) == getattr(text, theirs), theirs
    for theirs, ours in layout.FIELDS.items():
        assert getattr(layout.IMAGE, ours) == getattr(image, theirs), theirs
    assert layout.IMAGE.image_size == image.image_size
    assert layout.IMAGE.patch_size == image.patch_size
