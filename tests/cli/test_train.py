"""`train`: a recipe and data become a checkpoint that loads, and a history."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from ecliptic.engine import load
from tests.train.drawings import write_data

RECIPE = """
name = "shapes"
steps = 4
batch = 8
precision = "fp32"
log_every = 2
evaluate_every = 4
model.embed = 16
image_spec.size = 32
tokenizer_spec = {merges = 300, context = 24}

[data]
designs = ["flat", "thin"]
validation = "unseen"
emoji = 1
openclipart = 0
game_icons = 0

[model.image]
kind = "resnet"
image_size = 32
width = 8
depths = [1, 1, 1, 1]
heads = 4

[model.text]
vocabulary = 814
context = 24
width = 16
depth = 1
heads = 1
mlp = 32
end_of_text = 813
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_becomes_a_checkpoint_and_a_history(
    run: Any, recipe: Path, tmp_path: Path
) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    words = ["train", recipe, "--data", data, "--out", out]
    result = run(*words, "--set", "steps=2", "--set", "name=tiny shapes")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 2]
    assert "at_1" in history[-1]["design"]
    clip = load(out)
    assert clip.card.name == "tiny shapes"
    assert clip.encode_text("a red circle").shape == (1, 16)
    again = run(*words)
    assert again.exit_code == 1
    assert "--force" in again.stderr


def test_a_wrong_setting_stops_before_anything_is_written(
    run: Any, recipe: Path, tmp_path: Path
) -> None:
    words = ["train", recipe, "--data", tmp_path, "--out", tmp_path / "out"]
    result = run(*words, "--set", "stps=2")
    assert result.exit_code == 2
    assert "did you mean 'steps'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_recipe_alone_is_a_whole_command(
    run: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = run("train", recipe)
    assert missing.exit_code == 1
    assert "--data" in missing.stderr
    assert not Path("runs").exists()
    write_data(tmp_path / "data")
    result = run("train", recipe, "--set", "steps=1")
    assert result.exit_code == 0, result.stderr
    assert load("runs/shapes").card.name == "shapes"
    elsewhere = run("train", recipe, "--set", "name=../shapes")
    assert elsewhere.exit_code == 2
    assert "--out" in elsewhere.stderr


def test_f9_an_interrupted_run_keeps_the_steps_so_far(
    run: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecliptic.cli import train

    def interrupting(line: dict[str, Any]) -> str:
        if line["step"] == 2:
            signal.raise_signal(signal.SIGINT)
        return str(line)

    monkeypatch.setattr(train, "_describe", interrupting)
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)
    result = run("train", recipe, "--data", data, "--out", out, "--set", "steps=50")
    assert result.exit_code == 130, result.stderr
    assert "Ctrl-C again" in result.stderr
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 3, 3]
    assert history[-1] == {"step": 3, "stopped_before": 50}
    assert load(out).encode_text("a red circle").shape == (1, 16)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_run_may_be_stopped_at_once(
    run: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecliptic.cli import train

    def impatient(line: dict[str, Any]) -> str:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return str(line)

    monkeypatch.setattr(train, "_describe", impatient)
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    result = run("train", recipe, "--data", data, "--out", out)
    assert result.exit_code == 130
    assert [path.name for path in out.iterdir()] == ["history.jsonl"]
