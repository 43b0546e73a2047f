import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, Hints, read, write
from ecliptic.checkpoints.layouts.openai import WITH_VIT
from ecliptic.checkpoints.layouts.transformers import TABLE
from ecliptic.errors import AmbiguousCheckpointError, UnsupportedLayoutError
from tests import tiny
from tests.checkpoints.test_open_clip import check_weights

UNET = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}
FIRST, SECOND = tiny.checkpoint("unprojected"), tiny.checkpoint("text", "gelu", seed=1)


def hugging_face(prefix: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    named = TABLE.from_native(checkpoint.weights)
    named["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    return {prefix + name: tensor.contiguous().clone() for name, tensor in named.items()}


def open_clip(prefix: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    named = WITH_VIT.from_native(checkpoint.weights)
    named["logit_scale"] = torch.tensor(4.6)
    return {prefix + name: tensor for name, tensor in named.items()}


FILES = {
    "sd1": {"clip_l": hugging_face("cond_stage_model.transformer.", FIRST)},
    "sd2": {"clip_h": open_clip("cond_stage_model.model.", SECOND)},
    "sdxl": {
        "clip_l": hugging_face("conditioner.embedders.0.transformer.", FIRST),
        "clip_g": open_clip("conditioner.embedders.1.model.", SECOND),
    },
    "refiner": {"clip_g": open_clip("conditioner.embedders.0.model.", SECOND)},
    "sd3": {
        "clip_l": hugging_face("text_encoders.clip_l.transformer.", FIRST),
        "clip_g": hugging_face("text_encoders.clip_g.transformer.", SECOND),
    },
}
PARTS = [(family, part) for family, parts in FILES.items() for part in parts]


def save(family: str, folder: Path) -> Path:
    state = {name: tensor for part in FILES[family].values() for name, tensor in part.items()}
    return tiny.save_state(folder / f"{family}.ckpt", {**UNET, **state}, global_step=470000)


def check_encoder(found: Checkpoint, wanted: Checkpoint) -> None:
    assert found.layout == "diffusers"
    check_weights(found.weights, wanted.weights)


@pytest.mark.parametrize(("family", "part"), PARTS)
def test_encoders_of_single_files_are_read(family: str, part: str, tmp_path: Path) -> None:
    found = read(save(family, tmp_path), Hints(part=part, heads=1))
    wanted = FIRST if part == "clip_l" else SECOND
    check_encoder(found, wanted)
    assert found.config == wanted.config
    assert found.tokenizer_spec
    assert found.tokenizer_spec.pad == (49407 if part == "clip_l" else 0)


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_several_encoders_need_a_part(family: str, tmp_path: Path) -> None:
    path = save(family, tmp_path)
    with pytest.raises(AmbiguousCheckpointError, match='part="clip_l" or part="clip_g"'):
        read(path, Hints(heads=1))
    with pytest.raises(AmbiguousCheckpointError, match="has no part 'clip_x'"):
        read(path, Hints(heads=1, part="clip_x"))


@pytest.mark.parametrize("family", ["sd1", "sd2", "refiner"])
def test_a_single_encoder_needs_no_part(family: str, tmp_path: Path) -> None:
    assert read(save(family, tmp_path), Hints(heads=1)).layout == "diffusers"


def test_parts_are_also_called_as_diffusers_calls_them(tmp_path: Path) -> None:
    path = save("sdxl", tmp_path)
    check_encoder(read(path, Hints(part="text_encoder_2", heads=1)), SECOND)
    check_encoder(read(path, Hints(part="text_encoder", heads=1)), FIRST)


def test_a_projection_saved_as_a_linear_layer_is_turned(tmp_path: Path) -> None:
    state = FILES["sdxl"]["clip_g"].copy()
    name = "conditioner.embedders.1.model.text_projection"
    state[f"{name}.weight"] = state.pop(name).t().contiguous()
    torch.save(state, tmp_path / "model.ckpt")
    check_encoder(read(tmp_path / "model.ckpt", Hints(heads=1)), SECOND)


def write_pipeline(folder: Path) -> Path:
    """An SDXL-like folder: two encoders, their tokenizers, an image encoder, other parts."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline"}))
    (folder / "unet").mkdir()
    assert SECOND.tokenizer_spec
    first = replace(FIRST, tokenizer_spec=replace(SECOND.tokenizer_spec, pad=49407))
    parts = (
        ("text_encoder", "tokenizer", first),
        ("text_encoder_2", "tokenizer_2", SECOND),
        ("image_encoder", "feature_extractor", tiny.checkpoint("image")),
    )
    for name, inputs, checkpoint in parts:
        write(checkpoint, folder / name, "transformers")
        (folder / inputs).mkdir()
        for file in list((folder / name).iterdir()):
            if file.name not in ("config.json", "model.safetensors"):
                file.rename(folder / inputs / file.name)
    return folder


def test_encoders_of_a_folder_are_read_with_their_own_tokenizers(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "pipeline")
    first = read(folder, Hints(part="text_encoder"))
    second = read(folder, Hints(part="text_encoder_2"))
    image = read(folder, Hints(part="image_encoder"))
    check_encoder(first, FIRST)
    check_encoder(second, SECOND)
    check_encoder(image, tiny.checkpoint("image"))
    assert first.tokenizer_spec
    assert (first.tokenizer_spec.pad, first.name) == (49407, "pipeline")
    assert second.tokenizer_spec == SECOND.tokenizer_spec
    assert image.image_spec == tiny.checkpoint("image").image_spec
    with pytest.raises(AmbiguousCheckpointError, match=r'holds 3 CLIP encoders; pass part="text_'):
        read(folder)


def test_encoders_that_are_no_clip_are_not_offered(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "pipeline")
    for name in ("text_encoder_2", "image_encoder"):
        (folder / name / "config.json").write_text('{"model_type": "t5"}')
    check_encoder(read(folder), FIRST)
    (folder / "text_encoder" / "config.json").unlink()
    with pytest.raises(UnsupportedLayoutError, match="without a CLIP encoder"):
        read(folder)


def test_pipelines_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayoutError, match="cannot write layout 'diffusers'"):
        write(FIRST, tmp_path / "x", "diffusers")  # type: ignore[arg-type]
