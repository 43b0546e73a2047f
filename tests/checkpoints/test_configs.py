"""A bad value in a foreign config or name gives a typed error, and nothing hangs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.checkpoints import Layout, read, write
from ecliptic.checkpoints.hub.location import locate
from ecliptic.checkpoints.layouts.openai import INTEGERS
from ecliptic.errors import (
    CheckpointError,
    ConfigError,
    CorruptFileError,
    UnknownModelError,
    WeightsMismatchError,
)
from tests import tiny

INFINITY, NAN = float("inf"), float("nan")


def change(path: Path, place: str, value: Any) -> None:
    """Set the dotted `place` of a JSON file."""
    content = json.loads(path.read_text())
    *tables, last = place.split(".")
    table = content
    for name in tables:
        table = table[name]
    table[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("embed_dim", -1),
        ("embed_dim", 1 << 62),
        ("quick_gelu", "yes"),
        ("vision_cfg", [1]),
        ("vision_cfg.patch_size", 0),
        ("vision_cfg.head_width", 0),
        ("vision_cfg.width", 1 << 62),
        ("vision_cfg.mlp_ratio", INFINITY),
        ("vision_cfg.mlp_ratio", NAN),
        ("vision_cfg.mlp_ratio", 1e308),
        ("vision_cfg.layers", ["a", 1, 2, 3]),
        ("vision_cfg.layers", [1, 2]),
        ("vision_cfg.layers", 20_000),
        ("vision_cfg.image_size", []),
        ("text_cfg.vocab_size", 0),
        ("text_cfg.context_length", -5),
        ("text_cfg.heads", 0),
        ("text_cfg.pad_id", -1),
        ("text_cfg.norm_kwargs", {"eps": NAN}),
    ],
)
def test_open_clips_config_is_not_trusted(place: str, value: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path, "open_clip")
    change(tmp_path / "open_clip_config.json", f"model_cfg.{place}", value)
    with pytest.raises((CheckpointError, ConfigError), match=str(tmp_path)):
        read(tmp_path)


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("config.json", "model_type", [1]),
        ("config.json", "vision_config", "large"),
        ("config.json", "vision_config.patch_size", 0),
        ("config.json", "vision_config.num_hidden_layers", 20_000),
        ("config.json", "text_config.eos_token_id", [49407]),
        ("config.json", "text_config.eos_token_id", 49407.0),
        ("config.json", "text_config.layer_norm_eps", INFINITY),
        ("preprocessor_config.json", "size", "abc"),
        ("preprocessor_config.json", "size", {"shortest_edge": INFINITY}),
        ("preprocessor_config.json", "crop_size", [32]),
        ("preprocessor_config.json", "image_mean", ["a", 0, 0]),
        ("preprocessor_config.json", "image_std", [NAN, 1, 1]),
        ("preprocessor_config.json", "resample", [3]),
        ("tokenizer_config.json", "ecliptic_pad_id", 1 << 40),
        ("tokenizer_config.json", "ecliptic_pad_id", "a"),
    ],
)
def test_transformers_configs_are_not_trusted(
    file: str, place: str, value: Any, tmp_path: Path
) -> None:
    write(tiny.checkpoint(), tmp_path, "transformers")
    change(tmp_path / file, place, value)
    with pytest.raises((CheckpointError, ConfigError)):
        read(tmp_path)


def test_an_image_processor_of_another_form_is_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path, "transformers")
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text('{"image_processor": [1]}')
    with pytest.raises(CheckpointError, match="image_processor"):
        read(tmp_path)


def test_merges_that_are_no_text_are_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path, "transformers")
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFileError, match=r"merges\.txt is not text"):
        read(tmp_path)
    (tmp_path / "merges.txt").unlink()
    (tmp_path / "tokenizer.json").write_text('{"model": {"merges": [[1, 2], 3, null]}}')
    with pytest.raises(CheckpointError, match="merges are not CLIP's"):
        read(tmp_path)


@pytest.mark.parametrize("value", [torch.tensor([32, 32]), torch.tensor(NAN), "abc", 0, INFINITY])
def test_openais_integers_are_not_trusted(value: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model.pt", "openai")
    state = torch.load(tmp_path / "model.pt")
    torch.save({**state, INTEGERS[0]: value}, tmp_path / "model.pt")
    with pytest.raises(CorruptFileError, match="input_resolution is"):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize("value", [NAN, INFINITY, 1000.0])
def test_a_temperature_that_is_no_number_is_refused(value: float, tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model.pt", "openai")
    state = torch.load(tmp_path / "model.pt")
    torch.save({**state, "logit_scale": torch.tensor(value)}, tmp_path / "model.pt")
    with pytest.raises(CorruptFileError, match="logit_scale"):
        read(tmp_path / "model.pt")


def test_c6_a_long_list_of_differences_is_cut_and_counted(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path, "transformers")
    change(tmp_path / "config.json", "vision_config.num_hidden_layers", 12)
    with pytest.raises(
        WeightsMismatchError, match=r"(?s)120 differences.*and 100 more missing"
    ) as e:
        read(tmp_path)
    assert len(str(e.value).splitlines()) < 30


def test_a_block_of_an_absurd_number_is_unexpected(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model.pt", "openai")
    state = torch.load(tmp_path / "model.pt")
    state["transformer.resblocks." + "9" * 900 + ".ln_1.weight"] = torch.ones(64)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatchError, match="unexpected"):
        read(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x" * 5000, "too long"),
        ("~nobody-by-this-name/a", "home"),
        ("./" + "x/" * 5000, "too long"),
    ],
)
def test_names_that_can_be_no_path_are_refused(name: str, reason: str) -> None:
    with pytest.raises(UnknownModelError, match=reason) as refusal:
        locate(name, offline=True)
    assert len(str(refusal.value)) < 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX systems only")
@pytest.mark.parametrize("layout", ["ecliptic", "open_clip"])
def test_a_pipe_is_never_waited_for(layout: Layout, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnknownModelError, match="pipe or a device"):
        locate(tmp_path / "pipe")
    with pytest.raises(UnknownModelError):
        read(tmp_path / "pipe")
    write(tiny.checkpoint(), tmp_path / "model", layout)
    weights = next((tmp_path / "model").glob("*.safetensors"))
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(CheckpointError):
        read(tmp_path / "model")
