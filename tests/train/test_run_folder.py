"""What a run writes: it loads, it is kept in number, and a full disk leaves the last state."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.errors import ConfigError, MissingExtraError, StorageError
from ecliptic.settings import from_dict
from ecliptic.storage import read_json
from ecliptic.train import TrainSettings, resume, train
from ecliptic.train.history import draw_curves
from ecliptic.train.settings import CheckpointSettings, EvaluateSettings
from tests.train.runs import read_lines, states_of, tiny_run, write_folder, write_recipe

AT_1 = "held_out.image_to_text.at_1"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pairs") / "data")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_run(data, steps=6, evaluate=EvaluateSettings(every=3)), out)
    return out


def test_a_run_folder_says_what_was_run(run: Path, data: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        *("checkpoints", "curves.svg", "ecliptic.json", "metrics.jsonl", "model.safetensors"),
        *("rejects.jsonl", "run.json", "settings.json"),
    }
    settings = read_json(run / "settings.json")
    assert (settings["steps"], settings["data"]["root"]) == (6, str(data))
    facts = read_json(run / "run.json")
    assert (facts["seed"], facts["precision"], facts["processes"]) == (0, "fp32", 1)
    assert all(len(part) == 64 for part in facts["data"].split("-"))
    lines = read_lines(run)
    assert [line["step"] for line in lines] == [3, 3, 6, 6]
    assert AT_1 in lines[1]["evaluation"]


def test_checkpoints_and_the_whole_folder_load(run: Path) -> None:
    whole = ecliptic.load(run)
    last = ecliptic.load(run / "checkpoints" / "step-00000006.safetensors")
    assert whole.card.space == last.card.space
    earlier = ecliptic.load(run / "checkpoints" / "step-00000005.safetensors")
    assert earlier.card.space != last.card.space
    torch.testing.assert_close(whole.encode_text("a thing").norm(), torch.tensor(1.0))


def test_the_last_states_and_the_best_are_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.2, 0.9, 0.4, 0.9, 0.5])
    monkeypatch.setattr(
        "ecliptic.train.evaluation.Evaluation.measure", lambda *_: {AT_1: next(found)}
    )
    settings = tiny_run(
        data,
        steps=10,
        evaluate=EvaluateSettings(every=2),
        checkpoints=CheckpointSettings(every=1, minutes=0, keep=2, best=AT_1),
    )
    train(settings, tmp_path)
    assert states_of(tmp_path) == [4, 9, 10]


def test_a_used_folder_is_kept_unless_it_is_to_be_replaced(data: Path, tmp_path: Path) -> None:
    settings = tiny_run(data, steps=2)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"is not empty; name another folder, or pass overwrite"):
        train(settings, tmp_path)
    train(settings, tmp_path, overwrite=True)
    with pytest.raises(StorageError, match=r"go on with its run \(--resume"):
        train(settings, tmp_path)
    train(replace(settings, steps=1), tmp_path, overwrite=True)
    assert states_of(tmp_path) == [1]
    assert [line["step"] for line in read_lines(tmp_path)] == [1, 1]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_e9_too_little_space_is_seen_before_writing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends with the state before it, and goes on from there."""
    steps = iter(range(1, 100))

    def stop() -> bool:
        if next(steps) == 7:
            monkeypatch.setattr(
                "ecliptic.train.run_folder.shutil.disk_usage", lambda _: SimpleNamespace(free=5e6)
            )
        return False

    with pytest.raises(StorageError) as caught:
        train(tiny_run(data, steps=12), tmp_path, stop=stop)
    message = str(caught.value)
    assert "the run ends at step 10" in message
    assert "5 MB free, but a state of this run takes " in message
    assert "the last state is that of step 5; go on from it with ecliptic" in message
    assert f"train --resume {tmp_path}." in message
    assert states_of(tmp_path) == [5]
    monkeypatch.undo()
    assert resume(tmp_path).steps == 12


FULL = """
import json, resource, signal, sys
from pathlib import Path
from ecliptic.settings import from_dict
from ecliptic.train import TrainSettings, train

if __name__ == "__main__":
    settings = from_dict(TrainSettings, json.loads(Path(sys.argv[1]).read_text()))
    seen = []

    def stop():
        seen.append(1)
        if len(seen) == 7:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
        return False

    train(settings, Path(sys.argv[2]), stop=stop)
"""


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(1_000_000, id="in the model", marks=pytest.mark.slow),
        pytest.param(3_000_000, id="in the state"),
    ],
)
def test_e9_a_disk_that_fills_leaves_the_state_before(
    data: Path, tmp_path: Path, limit: int
) -> None:
    out = tmp_path / "run"
    recipe = write_recipe(tmp_path / "recipe.json", tiny_run(data, steps=12))
    found = subprocess.run(
        [sys.executable, "-c", FULL, recipe, out, str(limit)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
    )
    assert found.returncode == 1
    assert "the run ends at step 10" in found.stderr
    assert "cannot be written: " in found.stderr
    assert "the last state is that of step 5" in found.stderr
    assert states_of(out) == [5]
    assert not list(out.rglob("*.draft"))
    assert ecliptic.load(out / "checkpoints" / "step-00000005.safetensors").card.name == "tiny"
    assert ecliptic.load(out).card.name == "tiny"
    assert resume(out).steps == 12
    assert states_of(out) == [10, 12]


def test_a_damaged_state_is_named(data: Path, tmp_path: Path) -> None:
    train(tiny_run(data, steps=1), tmp_path)
    state = tmp_path / "checkpoints" / "step-00000001.state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ecliptic.errors.CheckpointError, match=r"step-00000001\.state"):
        resume(tmp_path)


def lines_of(count: int, sets: int = 1) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [{"step": n, "loss": 5.0 / n} for n in range(1, count + 1)]
    keys = [f"set{k}.image_to_text.at_{n}" for k in range(sets) for n in (1, 5)]
    return [*lines, {"step": count, "evaluation": dict.fromkeys(keys, 0.5) | {"set.images": 9.0}}]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 1, "loss": 3.0}],
        [{"step": 1, "loss": None}],
        [{"step": 2, "loss": -2.0}, {"step": 4, "loss": -2.0}],
        lines_of(5000, 9),
    ],
    ids=["none", "one", "not finite", "flat", "many"],
)
def test_curves_are_valid_whatever_the_lines(lines: list[dict[str, Any]]) -> None:
    drawn = draw_curves("a <b> & c", lines)
    root = ElementTree.fromstring(drawn)
    assert "a <b> & c: loss" in [one.text for one in root.iter() if one.text]
    assert "nan" not in drawn
    assert len(drawn) < 60_000


def test_curves_show_the_loss_the_evaluations_and_their_last_values() -> None:
    root = ElementTree.fromstring(draw_curves("run", lines_of(10)))
    texts = {one.text for one in root.iter() if one.text}
    assert {"step", "0", "10", "loss  0.5", "set0.image_to_text.at_5  0.5"} <= texts
    assert len([one for one in root.iter() if one.tag.endswith("polyline")]) == 3


def test_tensorboard_is_an_extra(data: Path, tmp_path: Path) -> None:
    settings = tiny_run(data, steps=2, tensorboard=True)
    with pytest.raises(MissingExtraError, match="needs the package tensorboard"):
        train(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tensorboard_gets_every_number(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert (folder, purge_step) == (str(tmp_path / "tensorboard"), 1)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            written.append(("closed", 0, 0))

    fake = SimpleNamespace(SummaryWriter=Writer, __spec__=object())
    monkeypatch.setitem(sys.modules, "tensorboard", fake)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    train(tiny_run(data, steps=2, tensorboard=True), tmp_path)
    names = {name for name, _, step in written if step == 2}
    assert {"loss", "rate", "images_per_s", "held_out/image_to_text/at_1"} <= names
    assert written[-1][0] == "closed"


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("optim", {"restart_rate": 1e-4}, "optim.restart_rate = 0.0001 has no effect without"),
        ("checkpoints", {"best": "x"}, 'checkpoints.best = "x" has no effect without an eval'),
        ("image", {"rate": 1e-3}, 'image.rate has no effect with trains = "text"'),
        ("", {"micro": 8}, "micro = 8 has no effect with data.batch = 8"),
    ],
)
def test_a_setting_without_effect_is_refused(
    data: Path, tmp_path: Path, table: str, change: dict[str, Any], message: str
) -> None:
    settings = tiny_run(data)
    if table == "image":
        settings = replace(settings, trains="text")
    if table == "checkpoints":
        settings = replace(settings, data=replace(settings.data, held_out=0.0))
    if table:
        settings = replace(settings, **{table: replace(getattr(settings, table), **change)})
    else:
        settings = replace(settings, **change)
    with pytest.raises(ConfigError, match=message):
        train(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_survive_their_own_file(run: Path, data: Path) -> None:
    found = from_dict(TrainSettings, read_json(run / "settings.json"))
    assert found == tiny_run(data, steps=6, evaluate=EvaluateSettings(every=3))
