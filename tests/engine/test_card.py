"""Fingerprints are equal if vectors may be compared, and differ if any setting differs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.checkpoints import Checkpoint, Layout, read, write
from ecliptic.engine import Card, Clip
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, Preprocess, TokenizerSpec
from ecliptic.scoring import Calibration
from tests import tiny
from tests.engine.models import reload, replace_weights, save

VIT = tiny.checkpoint("vit")


@pytest.fixture(scope="module")
def card(path: Path) -> Card:
    return ecliptic.load(path).card


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_one_model_has_one_space_in_every_layout(kind: str, tmp_path: Path) -> None:
    """Also if the layouts pad differently: OpenAI's with 0, Hugging Face's with 49407."""
    layouts: list[Layout] = ["ecliptic", "open_clip", "openai"]
    layouts += ["transformers"] if kind == "vit" else []
    clips: list[Clip] = []
    for layout in layouts:
        name = "model.pt" if layout == "openai" else layout
        clips.append(ecliptic.load(save(tiny.checkpoint(kind), tmp_path / name, layout)))
    assert len({clip.card.space for clip in clips}) == 1
    assert len({clip.card.exact for clip in clips}) == 1
    assert len({clip.card.layout for clip in clips}) == len(layouts)


def test_the_kind_of_block_leaves_the_spaces_of_older_resnets_as_they_were(tmp_path: Path) -> None:
    """Stored vectors keep their space; the tensors of another kind of block have other names."""
    held = tiny.checkpoint("resnet_image")
    ones = replace(held, weights={name: torch.ones_like(t) for name, t in held.weights.items()})
    bottlenecks = reload(ones, tmp_path / "resnet").card
    assert bottlenecks.space.startswith("6fba4c4e3953c699")  # before there were other blocks
    assert bottlenecks.to_dict()["config"]["image"]["block"] == "bottleneck"
    basic = reload(tiny.checkpoint("basic"), tmp_path / "basic").card
    assert basic.to_dict()["config"]["image"]["block"] == "basic"
    assert basic.space != bottlenecks.space


def test_padding_changes_tokens_but_neither_vectors_nor_space(path: Path, card: Card) -> None:
    padded = ecliptic.load(path, tokenizer_spec=TokenizerSpec(context=16, pad=49407))
    clip = ecliptic.load(path)
    assert padded.tokenize("a")[0, -1] != clip.tokenize("a")[0, -1]
    assert torch.equal(padded.encode_text(["a", "two dogs"]), clip.encode_text(["a", "two dogs"]))
    assert (padded.card.space, padded.card.exact) == (card.space, card.exact)
    assert padded.card.to_dict()["tokenizer_spec"]["pad"] == 49407  # listed, but not hashed


def test_loading_twice_gives_the_same(path: Path, card: Card) -> None:
    again = ecliptic.load(str(path)).card
    assert (again.space, again.exact) == (card.space, card.exact)
    assert len(again.space) == len(again.exact) == 64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_storing_the_same_values_wider_changes_nothing(dtype: torch.dtype, tmp_path: Path) -> None:
    half = tiny.checkpoint("vit", dtype=dtype)
    wide = replace(half, weights={name: t.float() for name, t in half.weights.items()})
    narrow_card = reload(half, tmp_path / "narrow").card
    assert narrow_card.space == reload(wide, tmp_path / "wide").card.space


@pytest.mark.parametrize(
    "name",
    ["logit_scale", "image.class_token", "text.blocks.2.mlp.down.bias", "text.positions"],
)
def test_any_weight_changes_the_space(name: str, card: Card, tmp_path: Path) -> None:
    moved = VIT.weights[name].clone()
    moved.view(-1)[-1] += 1e-6 + moved.view(-1)[-1].abs() * 1e-6
    other = replace_weights(VIT, **{name.replace(".", "_"): moved})
    assert reload(other, tmp_path / "moved").card.space != card.space


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu"},
        {"heads": 1},
        {"heads": (4, 1)},
        {"image_spec": ImageSpec(size=32, interpolation="bilinear")},
        {"image_spec": ImageSpec(size=32, mean=(0.5, 0.5, 0.5))},
        {"image_size": 64},
        {"preprocess": Preprocess(ImageSpec(size=32, resize="squash"))},
    ],
)
@pytest.mark.filterwarnings("ignore:preprocess was made for")
def test_how_inputs_and_weights_are_used_changes_the_space(
    options: dict[str, Any], path: Path, card: Card
) -> None:
    other = ecliptic.load(path, **options).card
    assert other.space != card.space
    assert other.exact != card.exact


def change_eps(checkpoint: Checkpoint) -> Checkpoint:
    assert checkpoint.config.text
    text = replace(checkpoint.config.text, eps=1e-6)
    return replace(checkpoint, config=replace(checkpoint.config, text=text))


def remove_image_tower(checkpoint: Checkpoint) -> Checkpoint:
    text = {n: t for n, t in checkpoint.weights.items() if n.startswith("text.")}
    config = replace(checkpoint.config, image=None)
    return replace(checkpoint, config=config, weights=text, image_spec=None)


@pytest.mark.parametrize("change", [change_eps, remove_image_tower])
def test_other_models_have_other_spaces(
    change: Callable[[Checkpoint], Checkpoint], card: Card, tmp_path: Path
) -> None:
    assert reload(change(VIT), tmp_path / "other").card.space != card.space


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"preprocess": "robust"},
        {"preprocess": Preprocess(ImageSpec(size=32), "robust", background=(0, 0, 0))},
        {"pixels": "close"},
        {"pixels": "fast"},
        {"preprocess": "robust", "pixels": "fast"},
    ],
)
def test_what_only_changes_numbers_keeps_the_space(
    options: dict[str, Any], path: Path, card: Card
) -> None:
    other = ecliptic.load(path, **options).card
    assert other.space == card.space
    assert other.exact != card.exact


def test_all_ways_to_different_numbers_differ(path: Path) -> None:
    ways = [(p, m) for p in ("fp32", "bf16", "fp16") for m in ("reference", "robust")]
    found = {ecliptic.load(path, precision=p, preprocess=m).card.exact for p, m in ways}  # type: ignore[arg-type]
    assert len(found) == len(ways)


def test_a_card_is_plain_data(card: Card) -> None:
    plain = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert plain["name"] == "tiny-vit"
    assert plain["embed"] == card.embed == 32
    assert plain["parameters"] == sum(t.numel() for t in VIT.weights.values())
    assert plain["config"]["text"]["activation"] == "quick_gelu"
    assert plain["image_spec"]["size"] == 32
    assert plain["tokenizer_spec"]["context"] == 16
    assert plain["preprocess"] == {"preprocess": "reference"}


def test_the_space_is_that_of_the_checkpoint_even_in_half(path: Path) -> None:
    """The card hashes the values in the file, not the rounded ones."""
    half = ecliptic.load(path, precision="bf16")
    weights = read(path).weights
    assert all(torch.equal(half.card.weights[name], weights[name]) for name in weights)


def test_a_model_that_was_moved_keeps_its_calibration_and_a_trained_one_loses_it(
    tmp_path: Path,
) -> None:
    calibration = Calibration(0.05, 0.3)
    write(replace(VIT, calibration=calibration), tmp_path / "model")
    clip = ecliptic.load(tmp_path / "model")
    card = clip.card
    for weight in clip.model.parameters():
        weight.data = weight.data.clone()  # as `.to(device)` does
    assert clip.card is not card
    assert clip.card == card
    with torch.no_grad():
        clip.model.logit_scale.add_(1)
    assert clip.card.calibration is None


@pytest.mark.parametrize("asked", [True, False])
def test_a_trained_model_gets_another_card(asked: bool, path: Path, card: Card) -> None:
    """Whether or not its fingerprint was computed before the step."""
    clip = ecliptic.load(path)
    old = clip.card
    assert clip.card is old
    if asked:
        assert old.space == card.space
    with torch.no_grad():
        clip.model.text_tower.ln_final.weight.mul_(2)
    trained = clip.card
    assert trained is clip.card
    assert trained.space != card.space
    assert trained.exact != card.exact
    assert trained.notes[-1] == "the weights changed since loading"
    if asked:
        assert old.space == card.space  # it still describes the weights it was made of
    else:
        with pytest.raises(ConfigError, match=r"read `clip\.card` again"):
            _ = old.space
    clip.save(path.parent / f"trained-{asked}")
    assert ecliptic.load(path.parent / f"trained-{asked}").card.space == trained.space


def test_a_second_step_gives_a_third_card(path: Path) -> None:
    clip, spaces = ecliptic.load(path), set()
    for _ in range(3):
        spaces.add(clip.card.space)
        with torch.no_grad():
            clip.model.logit_scale.add_(0.5)
    assert len(spaces) == 3


def test_a_model_moved_to_half_says_so_in_the_same_space(path: Path, card: Card) -> None:
    clip = ecliptic.load(path)
    clip.model.to(torch.bfloat16)
    assert (clip.card.precision, clip.card.space) == ("bf16", card.space)
    assert clip.card.exact == ecliptic.load(path, precision="bf16").card.exact
