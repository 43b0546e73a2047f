"""The doctor names the first stage that differs, and only what really differs."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.engine import OTHERS, Diagnosis, Implementation, diagnose, load, ours
from ecliptic.inputs import ImageSpec
from tests import peers, tiny

PLAIN = ("a plain caption", "two dogs")


def make_implementation(checkpoint: Checkpoint, folder: Path) -> Implementation:
    write(checkpoint, folder)
    return ours(load(folder), folder.name, folder)


def shift(name: str, by: float = 0.01) -> Checkpoint:
    """The tiny model with `by` added to one tensor."""
    checkpoint = tiny.checkpoint("vit")
    moved: Tensor = checkpoint.weights[name] + by
    return dataclasses.replace(checkpoint, weights={**checkpoint.weights, name: moved})


def differing(found: Diagnosis) -> list[str]:
    return [stage.name for stage in found.stages if stage.verdict == "differs"]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Implementation:
    return make_implementation(tiny.checkpoint("vit"), tmp_path_factory.mktemp("models") / "vit")


def test_a_model_equals_itself_in_every_stage(healthy: Implementation) -> None:
    found = diagnose(healthy, healthy)
    assert found.first is None
    names = [stage.name for stage in found.stages]
    assert names == [
        "bytes",
        "settings",
        "weights",
        "tokens",
        *(f"text layer {i}" for i in range(4)),
        "text pooled",
        "text vectors",
        "text end to end",
        "pixels",
        *(f"image layer {i}" for i in range(3)),
        "image pooled",
        "image vectors",
        "image end to end",
    ]


@pytest.mark.parametrize(
    ("name", "first", "clean"),
    [
        ("text.blocks.1.mlp.up.weight", "text layer 2", "text layer 1"),
        ("text.ln_final.bias", "text pooled", "text layer 3"),
        ("image.blocks.0.attention.qkv.weight", "image layer 1", "image layer 0"),
        ("image.projection", "image vectors", "image pooled"),
    ],
)
def test_a_changed_tensor_shows_where_it_is_used(
    healthy: Implementation, tmp_path: Path, name: str, first: str, clean: str
) -> None:
    found = diagnose(healthy, make_implementation(shift(name), tmp_path / "changed"))
    assert differing(found)[:3] == ["bytes", "weights", first]
    assert found.first
    assert found.first.name == "bytes"
    stages = {stage.name: stage for stage in found.stages}
    assert name in stages["weights"].note
    assert stages[clean].verdict == "same"


def test_other_pixels_do_not_blame_the_layers(healthy: Implementation, tmp_path: Path) -> None:
    """Both towers get A's pixels, so only pixels and end-to-end vectors differ."""
    spec = ImageSpec(size=32, interpolation="bilinear")
    other = dataclasses.replace(tiny.checkpoint("vit"), image_spec=spec)
    found = diagnose(healthy, make_implementation(other, tmp_path / "bilinear"))
    assert differing(found) == ["settings", "pixels", "image end to end"]
    assert "interpolation bicubic / bilinear" in found.stages[1].note


def test_padding_is_told_from_tokens(healthy: Implementation, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit")
    assert checkpoint.tokenizer_spec
    spec = dataclasses.replace(checkpoint.tokenizer_spec, pad=49407)
    other = dataclasses.replace(checkpoint, tokenizer_spec=spec)
    found = diagnose(healthy, make_implementation(other, tmp_path / "padded"))
    (tokens,) = (stage for stage in found.stages if stage.name == "tokens")
    assert tokens.verdict == "differs"
    assert "only in the padding" in tokens.note
    assert differing(found) == ["settings", "tokens"]


def test_a_missing_tower_is_a_difference(healthy: Implementation, tmp_path: Path) -> None:
    text = make_implementation(tiny.checkpoint("text"), tmp_path / "text")
    found = diagnose(healthy, text)
    stages = {stage.name: stage for stage in found.stages}
    assert stages["image tower"].note == "B has none"
    assert "image tower" in differing(found)
    assert diagnose(text, text).first is None


def test_other_sizes_are_compared_as_far_as_they_go(
    healthy: Implementation, tmp_path: Path
) -> None:
    found = diagnose(healthy, make_implementation(tiny.checkpoint("resnet"), tmp_path / "resnet"))
    stages = {stage.name: stage for stage in found.stages}
    assert stages["pixels"].difference == math.inf
    assert stages["image layer 4"].note == "not in A"
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["first_difference"] == "bytes"
    assert differing(found)[1] == "settings"


def test_slack_forgives_rounding_to_half(healthy: Implementation, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit")
    half = {name: tensor.half() for name, tensor in checkpoint.weights.items()}
    rounded = make_implementation(dataclasses.replace(checkpoint, weights=half), tmp_path / "half")
    strict = diagnose(healthy, rounded)
    assert strict.first
    assert strict.first.name == "bytes"
    assert "float32 / float16" in strict.stages[0].note
    assert diagnose(healthy, rounded, slack=1000).first is None


def test_not_a_number_is_never_the_same(healthy: Implementation, tmp_path: Path) -> None:
    broken = make_implementation(shift("text.projection", math.nan), tmp_path / "nan")
    raw = dataclasses.replace(broken, text=_skip_checks(broken), image=None)
    found = diagnose(dataclasses.replace(healthy, image=None), raw)
    assert differing(found) == ["bytes", "weights", "text vectors", "text end to end"]


def _skip_checks(one: Implementation) -> Any:
    """Its text tower, with end-to-end vectors that skip the engine's checks."""
    tower = one.text
    assert tower
    return dataclasses.replace(tower, vectors=lambda t: tower.stages(tower.inputs(t))["vectors"])


def test_other_bytes_with_the_same_tensors_are_shown_but_no_difference(
    healthy: Implementation, tmp_path: Path
) -> None:
    write(tiny.checkpoint("vit"), tmp_path / "hf", "transformers")
    other = ours(load(tmp_path / "hf"), "hf", tmp_path / "hf")
    found = diagnose(healthy, other)
    assert (found.stages[0].name, found.stages[0].verdict) == ("bytes", "differs")
    assert "SHA-256" in found.stages[0].note
    assert found.first is None
    assert diagnose(healthy, healthy).stages[0].verdict == "same"


def test_the_end_of_text_is_the_tokenizers_not_the_largest_id() -> None:
    from ecliptic.engine.doctor import _find_first_token

    a = torch.tensor([[1, 9, 5, 0, 0]])  # 5 ends the text
    assert "place 2" in _find_first_token(a, torch.tensor([[1, 9, 6, 0, 0]]), 5)
    assert "padding" in _find_first_token(a, torch.tensor([[1, 9, 5, 7, 7]]), 5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_open_clip_agrees_on_the_same_weights(tmp_path: Path, kind: str) -> None:
    library = peers.open_clip()
    mine = make_implementation(tiny.checkpoint(kind), tmp_path / "mine")
    write(tiny.checkpoint(kind), tmp_path / "theirs", "open_clip")
    architecture = f"doctor-{kind}"
    config = json.loads((tmp_path / "theirs" / "open_clip_config.json").read_text())
    (tmp_path / f"{architecture}.json").write_text(json.dumps(config["model_cfg"]))
    library.add_model_config(tmp_path / f"{architecture}.json")
    weights = tmp_path / "theirs" / "open_clip_model.safetensors"
    found = diagnose(mine, OTHERS["open_clip"](f"{architecture}/{weights}"), texts=PLAIN)
    assert differing(found) == ["bytes"]  # the layouts differ
    assert found.first is None
    measured = [stage.name for stage in found.stages if stage.verdict == "same"]
    assert {"tokens", "text layer 3", "pixels", "image vectors"} <= set(measured)


def test_transformers_agrees_on_the_same_weights(tmp_path: Path) -> None:
    peers.transformers()
    mine = make_implementation(tiny.checkpoint("vit"), tmp_path / "mine")
    write(tiny.checkpoint("vit"), tmp_path / "theirs", "transformers")
    found = diagnose(mine, OTHERS["transformers"](str(tmp_path / "theirs")), texts=PLAIN)
    # its centre crop may round differently, and it pads differently; the towers agree
    assert set(differing(found)) <= {"bytes", "tokens", "pixels", "image end to end"}
    assert "only in the padding" in next(s.note for s in found.stages if s.name == "tokens")


def test_hooks_are_taken_off_again(tmp_path: Path) -> None:
    from ecliptic.engine.implementations import record_layers

    blocks = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with record_layers(blocks, 1) as stages:
        blocks[0](torch.ones(1, 2))
    assert list(stages) == ["layer 0", "layer 1"]
    blocks[0](torch.zeros(1, 2))
    assert float(stages["layer 0"].sum()) == 2
