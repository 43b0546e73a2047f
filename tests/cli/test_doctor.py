"""`doctor`: exit code and output of a diagnosis; the engine's tests cover the comparison."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import write
from tests import peers, tiny


def test_the_same_model_in_two_layouts_is_healthy(run: Any, model: str, tmp_path: Path) -> None:
    write(tiny.checkpoint("vit"), tmp_path / "hf", "transformers")
    result = run("doctor", model, tmp_path / "hf")
    assert result.exit_code == 0, result.stdout
    assert "image layer 2" in result.stdout
    assert "no difference" in result.stderr
    assert "only the bytes of the files differ" in result.stderr


def test_the_first_difference_is_named_and_exits_with_1(
    run: Any, model: str, tmp_path: Path
) -> None:
    write(tiny.checkpoint("vit", activation="gelu"), tmp_path / "gelu")
    result = run("doctor", model, tmp_path / "gelu")
    assert result.exit_code == 1
    assert "first difference: settings" in result.stderr
    found = json.loads(run("doctor", model, tmp_path / "gelu", "--json").stdout)
    assert found["first_difference"] == "settings"
    assert "image.activation quick_gelu / gelu" in found["stages"][1]["note"]


def test_a_changed_weight_is_a_difference_of_bytes_and_of_weights(
    run: Any, model: str, tmp_path: Path
) -> None:
    write(tiny.checkpoint("vit", seed=1), tmp_path / "other")
    result = run("doctor", model, tmp_path / "other")
    assert result.exit_code == 1
    assert "first difference: bytes" in result.stderr
    assert "beyond the bytes: weights" in result.stderr


def test_other_implementations_are_asked_by_name(
    run: Any, model: str, images: Path, tmp_path: Path
) -> None:
    peers.transformers()
    write(tiny.checkpoint("vit"), tmp_path / "hf", "transformers")
    words = ["doctor", model, f"transformers:{tmp_path / 'hf'}", "-t", "a plain caption"]
    stages = json.loads(run(*words, "--json").stdout)["stages"]
    verdicts = {stage["name"]: stage["verdict"] for stage in stages}
    assert verdicts["image vectors"] == verdicts["text end to end"] == "same"


def test_an_implementation_that_is_not_installed_says_so(
    run: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    result = run("doctor", model, "open_clip:ViT-B-32/openai")
    assert result.exit_code == 1
    assert "pip install open_clip_torch" in result.stderr
