"""`models` lists the catalog, `info` describes a model, `convert` changes its layout."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.checkpoints import catalog, read, write
from ecliptic.cli.model_sizes import parameters
from ecliptic.engine import load
from ecliptic.model import build
from tests import tiny


def test_models_lists_the_whole_catalog(run: Any) -> None:
    found = json.loads(run("models", "--json").stdout)
    assert [row["name"] for row in found] == list(catalog.names())
    openai = next(row for row in found if row["name"] == "ViT-B-32/openai")
    assert openai["parameters"] == 151_277_313  # openai/CLIP's ViT-B/32
    assert openai["activation"] == "quick_gelu"


def test_models_filters_by_every_word(run: Any) -> None:
    found = json.loads(run("models", "b-32", "OPENAI", "--json").stdout)
    assert [row["name"] for row in found] == ["ViT-B-32/openai"]
    assert "ViT-B-32/openai" in run("models", "b-32", "openai").stdout


@pytest.mark.parametrize("name", catalog.architectures())
def test_parameters_are_counted_without_a_model(name: str) -> None:
    config = catalog.architecture(name)
    assert parameters(config) == sum(p.numel() for p in build(config).parameters())


@pytest.mark.parametrize("kind", ["text", "unprojected", "image", "cut", "resnet", "basic"])
def test_parameters_of_one_tower_cut_vocabularies_and_each_kind_of_block(kind: str) -> None:
    config = tiny.CONFIGS[kind]
    assert parameters(config) == sum(p.numel() for p in build(config).parameters())


def test_info_is_the_card_of_the_model(run: Any, model: str) -> None:
    clip = load(model)
    card, choices = clip.card, [asdict(choice) for choice in clip.runtime.describe()]
    plain = json.loads(run("info", model, "--json").stdout)
    assert plain == json.loads(json.dumps(card.to_dict())) | {"runtime": choices}
    assert "space" not in plain
    full = json.loads(run("info", model, "--json", "--fingerprint").stdout)
    assert (full["space"], full["exact"]) == (card.space, card.exact)
    shown = run("info", model).stdout
    assert "report" not in plain
    assert "How right it is" not in shown
    assert f"{card.parameters:,}" in shown
    assert "quick_gelu" in shown
    for choice in choices:
        assert f"{choice['chosen']} ({choice['why']})" in shown


def test_info_of_mini_says_what_it_knows_and_how_right_it_is(run: Any) -> None:
    told = json.loads(run("info", "mini", "--json").stdout)["report"]
    assert sum(source["pictures"] for source in told["data"]) > 40_000
    assert all(source["licence"] for source in told["data"])
    for one in told["measures"]:
        assert 0 <= one["low"] <= one["value"] <= one["high"] <= 1
        assert one["count"] > 0
    assert min(told["speeds"].values()) > 0
    shown = " ".join(run("info", "mini").stdout.split())
    for words in (told["knows"], *told["never_shown"], *told["limits"], told["page"]):
        assert words in shown
    assert all(one["what"] in shown for one in told["measures"])


def test_info_tells_the_blocks_of_a_resnet(run: Any, tmp_path: Path) -> None:
    for kind, block in (("resnet", "bottleneck"), ("basic", "basic")):
        write(tiny.checkpoint(kind), tmp_path / kind)
        told = json.loads(run("info", tmp_path / kind, "--json").stdout)
        assert told["config"]["image"]["block"] == block
        assert told["notes"] == []
        assert f"config.image.block {block}" in " ".join(
            run("info", tmp_path / kind).stdout.split()
        )


@pytest.mark.parametrize("layout", ["ecliptic", "openai", "open_clip", "transformers"])
def test_convert_keeps_every_tensor(run: Any, model: str, tmp_path: Path, layout: str) -> None:
    out = tmp_path / ("model.pt" if layout == "openai" else "model")
    result = run("convert", model, out, "--layout", layout)
    assert result.exit_code == 0, result.stderr
    before, after = read(model).weights, read(out).weights
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_convert_replaces_another_checkpoint_only_by_force(
    run: Any, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write(tiny.checkpoint("vit", seed=1), out)
    assert run("convert", model, out).exit_code == 1
    assert run("convert", model, out, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("kind", "layout", "reason"),
    [
        ("resnet", "transformers", "ResNet"),
        ("basic", "openai", "its ResNets have bottlenecks, this one has basic blocks"),
        ("basic", "open_clip", "its ResNets have bottlenecks, this one has basic blocks"),
    ],
)
def test_convert_says_what_a_layout_cannot_hold(
    run: Any, tmp_path: Path, kind: str, layout: str, reason: str
) -> None:
    write(tiny.checkpoint(kind), tmp_path / "resnet")
    result = run("convert", tmp_path / "resnet", tmp_path / "out", "-l", layout)
    assert result.exit_code == 1
    assert reason in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_what_a_file_does_not_tell_is_passed_on(run: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint("vit", activation="gelu"), tmp_path / "folder", "open_clip")
    source = tmp_path / "bare.safetensors"  # without the config beside it
    next((tmp_path / "folder").glob("*.safetensors")).rename(source)
    refused = run("info", source)
    assert refused.exit_code == 1
    assert "pass --heads" in refused.stderr
    assert "--activation quick_gelu" in run("info", source, "--heads", "2,1").stderr
    words = ["info", source, "--activation", "gelu", "--heads", "2,1", "--json"]
    assert "--image-spec" in run(*words).stderr
    words += ["--image-spec", "size=32, resize='squash'"]
    told = run(*words)
    assert told.exit_code == 0, told.stderr
    config = json.loads(told.stdout)["config"]
    assert config["image"]["activation"] == "gelu"
    assert (config["image"]["heads"], config["text"]["heads"]) == (2, 1)
    assert json.loads(told.stdout)["image_spec"]["resize"] == "squash"
    assert run("info", source, "--heads", "two").exit_code == 2
    assert run("info", source, "--image-spec", "size").exit_code == 2
    assert "did you mean 'resize'" in run("info", source, "--image-spec", "resiz='squash'").stderr
