"""`train`: a recipe and data become a run that loads, is explained before, and goes on after."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecliptic.cli.training_lines import describe, describe_seconds
from ecliptic.engine import load
from tests.train.drawings import write_data
from tests.train.runs import states_of, write_folder
from tests.train.synsets import write_synsets

RECIPE = """
name = "shapes"
steps = 4
precision = "fp32"
log_every = 2
model.embed = 16
image_spec.size = 32
tokenizer_spec = {merges = 300, context = 24}

[data]
batch = 8
held_out = 0.25
sources = [{kind = "folder", path = "."}]

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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", 16)


def test_a_recipe_becomes_a_run_that_loads(
    run: Any, recipe: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["train", recipe, "--data", data, "--out", out]
    restarts = "optim.restarts=[1]", "optim.restart_rate=1e-4", "optim.warmup=0"
    result = run(*words, "steps=2", "name=tiny shapes", *restarts)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    step, evaluation, end = result.stderr.splitlines()
    assert step.startswith("step 2/2  loss ")
    assert " images/s  step " in step
    assert " s, data " in step
    assert " of peak" in step
    assert evaluation.startswith("step 2/2  held_out.image_to_text R@1 ")
    assert f"`ecliptic info {out}`" in end
    assert load(out).card.name == "tiny shapes"
    again = run(*words)
    assert again.exit_code == 1
    assert f"go on with its run (--resume {out}), name another folder, or pass --force" in (
        again.stderr
    )
    assert run(*words, "steps=1", "--force").exit_code == 0
    assert states_of(out) == [1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stps=2"], "Invalid value: settings has no field 'stps'; did you mean 'steps'"),
        (["optim.rat=2"], "settings.optim has no field 'rat'; did you mean 'rate'"),
        (["steps"], "needs the form table.field=value"),
        (["optim.restarts=[1,"], "is not valid TOML"),
        (["steps.x=1"], "'steps' is a value, not a table"),
        (["--resume", "RUN"], "leave 'RECIPE' out, or write KEY=VALUE"),
    ],
)
def test_a_wrong_setting_stops_before_anything_is_written(
    run: Any, recipe: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    given = ["train", recipe, *words, "--data", tmp_path]
    given += [] if "--resume" in words else ["--out", tmp_path / "out"]
    result = run(*given)
    assert result.exit_code == 2
    assert message.replace("RECIPE", str(recipe)) in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_command_needs_a_recipe_or_a_run(run: Any, tmp_path: Path) -> None:
    result = run("train")
    assert result.exit_code == 2
    setting = run("train", "steps=3")
    assert setting.exit_code == 2
    assert "name a RECIPE before the setting 'steps=3'" in setting.stderr
    assert "--resume RUN" in result.stderr
    result = run("train", "--resume", tmp_path, "--explain")
    assert result.exit_code == 2
    assert "leave --out, --explain and --force" in result.stderr
    result = run("train", "--resume", tmp_path)
    assert result.exit_code == 1
    assert "holds no training run" in result.stderr


def test_a_recipe_alone_is_a_whole_command(
    run: Any, recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run("train", recipe, "--data", tmp_path / "none")
    assert missing.exit_code == 1
    assert "--data" in missing.stderr
    monkeypatch.chdir(data)
    assert run("train", recipe, "steps=1").exit_code == 0
    assert load("runs/shapes").card.name == "shapes"
    elsewhere = run("train", recipe, "name=../shapes")
    assert elsewhere.exit_code == 2
    assert "--out" in elsewhere.stderr


def test_explain_says_what_will_happen_and_trains_nothing(
    run: Any, recipe: Path, data: Path
) -> None:
    words = ["train", recipe, "--data", data, "--explain", "trains=text", "text.freeze_layers=1"]
    result = run(*words, "text.rate_decay=0.5", "optim.warmup=9", "processes.timeout=5.0")
    assert result.exit_code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "steps 4, each of 8 pairs: 32 in all" in lines
    assert "precision fp32, as set" in lines
    assert "evaluated on held_out (4 images)" in lines
    assert "image 5: attention pool 202,000 0 frozen" in lines
    assert "text 0: embeddings 13,408 0 frozen" in lines
    assert "text 1: block 2,224 2,224 0.00025" in lines
    assert "loss temperature 1 1 0.0005" in lines
    assert "folder . 12 4 32 2.667" in lines
    assert "0.00025 0.2 4 2,048" in lines
    assert any("the warm-up of 9 steps is not over after 4" in line for line in lines)
    assert any("[processes] is not used" in line for line in lines)
    assert any("freezes the image tower, whose weights are random" in line for line in lines)
    large = run("train", recipe, "--data", data, "--explain", "data.batch=13").stdout
    assert "data.batch = 13 is more than the 12 examples" in " ".join(large.split())
    assert not Path("runs").exists()


def test_explain_lists_text_pairs_and_the_names_that_wordnet_knows(
    run: Any, recipe: Path, data: Path
) -> None:
    write_data(data)
    write_synsets(data / "synsets.tsv")
    emoji = '{kind = "drawings", path = "emoji", designs = ["flat"], wordnet = "synsets.tsv"}'
    source = '{kind = "wordnet", path = "synsets.tsv", weight = 3, kinds = ["noun.animal"]}'
    result = run(
        *("train", recipe, "--data", data, "--explain", "steps=6"),
        f'data.sources=[{{kind = "folder", path = "."}}, {emoji}]',
        f'data.texts.sources=[{source}, {{path = "synsets.tsv"}}]',
        *("data.texts.batch=20", "data.held_out=0"),
    )
    assert result.exit_code == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert any(line.startswith("folder . ") for line in lines)
    assert "drawings emoji 15 0 24 1.6 15" in lines
    assert "source words pairs drawn epochs" in lines
    assert "wordnet synsets.tsv: noun.animal 4 90 22.5" in lines
    assert "wordnet synsets.tsv 11 30 2.727" in lines
    assert "data.texts.batch = 20 is more than the 15 text pairs" in " ".join(lines)


def test_explain_times_both_precisions_and_speaks_json(run: Any, recipe: Path, data: Path) -> None:
    words = ["train", recipe, "--data", data, "--explain", "--json", "precision=auto"]
    found = json.loads(run(*words).stdout)
    assert found["precision_seconds"].keys() == {"fp32", "bf16"}
    assert found["precision"] == min(found["precision_seconds"], key=found["precision_seconds"].get)
    assert found["pairs"] == 32
    assert found["run_seconds"] == pytest.approx(
        4 * (found["step_seconds"] + found["data_seconds"])
    )
    assert found["memory_bytes"] > 1e7
    assert found["sources"][0]["held_out"] == 4


def test_only_one_process_explains(
    run: Any, recipe: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = run("train", recipe, "--data", data, "--explain")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "run --explain with one process" in " ".join(result.stderr.split())


def test_a_setting_without_effect_is_refused(run: Any, recipe: Path, data: Path) -> None:
    words = ["train", recipe, "--data", data]
    result = run(*words, "trains=text", "image.rate=1e-4", "micro=64")
    assert result.exit_code == 1
    assert "image.rate has no effect" in result.stderr
    assert "micro = 64 has no effect" in result.stderr
    result = run(*words, "optim.cooldown=2")
    assert result.exit_code == 2
    assert "optim.cooldown has no effect" in result.stderr


def test_json_is_a_line_for_each_event(run: Any, recipe: Path, data: Path, tmp_path: Path) -> None:
    result = run("train", recipe, "--data", data, "--out", tmp_path / "out", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["step"] for event in events] == [2, 4, 4]
    assert {"loss", "data_s", "step_s", "images_per_s", "share_of_peak"} <= events[0].keys()
    assert "held_out.text_to_image.at_5" in events[2]["evaluation"]
    written = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == events


def interrupt_with(
    monkeypatch: pytest.MonkeyPatch, *signals: signal.Signals, step: int = 2
) -> None:
    """Send the signals when the line of a step is shown."""
    from ecliptic.cli import train

    def interrupting(line: dict[str, Any], _: int) -> str:
        if line["step"] == step:
            for one in signals:
                signal.raise_signal(one)
        return str(line)

    monkeypatch.setattr(train, "describe", interrupting)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f9_an_interrupted_run_goes_on(
    run: Any,
    recipe: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sent: signal.Signals,
    code: int,
) -> None:
    interrupt_with(monkeypatch, sent)
    out = tmp_path / "out"
    before = signal.getsignal(sent)
    words = ["train", recipe, "--data", data, "--out", out, "steps=5", "checkpoints.minutes=0"]
    result = run(*words)
    assert result.exit_code == code, result.stderr
    assert "Ctrl-C again" in result.stderr
    assert f"go on with: ecliptic train --resume {out}" in result.stderr
    assert states_of(out) == [3]
    assert load(out).encode_text("a red circle").shape == (1, 16)
    assert signal.getsignal(sent) is before
    monkeypatch.undo()
    again = run("train", "--resume", out, "data.ahead=3")
    assert again.exit_code == 0, again.stderr
    assert again.stderr.startswith("going on after step 3 of 5\n")
    assert states_of(out) == [3, 5]
    done = run("train", "--resume", out)
    assert done.stderr.startswith("nothing is left to do after step 5 of 5\n")
    lost = run("train", "--resume", out, "--data", "nowhere")
    assert lost.exit_code == 1
    assert "no folder nowhere in the current folder; name" in " ".join(lost.stderr.split())
    other = run("train", "--resume", out, "optim.rate=1")
    assert other.exit_code == 2
    assert "cannot go on with another optim.rate" in other.stderr
    assert "; steps too with the schedules constant and inverse-sqrt" in other.stderr


def test_f9_an_interrupted_run_may_be_stopped_at_once(
    run: Any, recipe: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_with(monkeypatch, signal.SIGINT, signal.SIGINT)
    out = tmp_path / "out"
    result = run("train", recipe, "--data", data, "--out", out)
    assert result.exit_code == 130
    assert states_of(out) == []


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f9_a_signal_to_all_processes_of_a_run_leaves_a_state(
    recipe: Path, data: Path, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    """As a terminal and a batch system send it: the workers get it too."""
    out = tmp_path / "out"
    words = ["train", recipe, "--data", data, "--out", out, "steps=100000", "data.workers=2"]
    command = [sys.executable, "-m", "ecliptic", *map(str, words), "--json"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["step"] == 2
    os.killpg(child.pid, sent)
    _, errors = child.communicate(timeout=300)
    assert child.returncode == code, errors
    assert len(states_of(out)) == 1


def test_a_line_names_what_is_not_finite_and_what_was_rejected() -> None:
    line = {"step": 3, "loss": None, "rate": 1e-3, "norm": None, "scale": 14.3, "rejects": 2}
    line |= {"images_per_s": 123.4, "step_s": 0.5, "data_s": 0.1}
    assert describe(line, 63) == (
        "step 3/63  loss not finite  rate 0.001  norm not finite  scale 14.3  123 images/s  "
        "step 0.5 s, data 0.1 s  rejects 2  36 s left"
    )
    assert [describe_seconds(s) for s in (0.123, 75, 3600 * 2 + 65)] == [
        "0.12 s", "1:15 min", "2:01 h"
    ]  # fmt: skip
