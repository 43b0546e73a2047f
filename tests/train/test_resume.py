"""A run that is killed and goes on is bit for bit the run that was never interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.errors import ConfigError, StorageError
from ecliptic.train import ResumeWarning, TrainSettings, resume, train
from ecliptic.train.environment import find_changes, list_facts
from tests.train.runs import (
    assert_same_state,
    read_lines,
    states_of,
    tiny_run,
    write_folder,
    write_recipe,
)

ROOT = Path(__file__).parents[2]
# Trains in a process of its own, and prints "here" and waits at a moment, to be killed there.
SCRIPT = """
import json, sys, time
from pathlib import Path
from ecliptic.settings import from_dict
from ecliptic.train import TrainSettings, resume, run_folder, train

recipe, out, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def wait():
    print("here", flush=True)
    time.sleep(600)

def stop():
    stop.steps += 1
    print("step", stop.steps, flush=True)
    if moment == f"after step {stop.steps}":
        wait()
    return False

stop.steps = 0
whole = run_folder.write_safetensors

def write_half(draft, tensors, metadata):
    whole(draft, tensors, metadata)
    if stop.steps >= 10:
        data = draft.read_bytes()
        draft.write_bytes(data[:len(data) // 2])
        wait()

write_model = run_folder.write

def write_one(*args, **more):
    write_model(*args, **more)
    if stop.steps >= 10:
        wait()

if __name__ == "__main__":
    if moment == "in the state of step 10":
        run_folder.write_safetensors = write_half
    if moment == "in the model of step 10":
        run_folder.write = write_one
    if (out / "settings.json").exists():
        resume(out, stop=stop)
    else:
        settings = from_dict(TrainSettings, json.loads(recipe.read_text()))
        train(settings, out, stop=stop)
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pairs") / "data")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny_run(data), out)
    return out


@contextmanager
def started(recipe: Path, out: Path, moment: str) -> Iterator[subprocess.Popen[str]]:
    """A training in a process group of its own, which is killed at the end."""
    script = recipe.with_name("script.py")
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(recipe), str(out), moment]
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def kill_at(settings: TrainSettings, folder: Path, out: Path, moment: str) -> None:
    """Start a run, and kill its processes, the workers too, when it says "here"."""
    recipe = write_recipe(folder / "recipe.json", settings)
    with started(recipe, out, moment) as child:
        assert child.stdout is not None
        assert "here\n" in iter(child.stdout.readline, "")


SLOW = pytest.mark.slow


def check_goes_on(whole: Path, out: Path, last: int) -> None:
    """A run that was killed has its `last` state, and goes on bit for bit."""
    assert (states_of(out) or [0])[-1] == last
    if last:
        assert ecliptic.load(out).card.name == "tiny"
    run = resume(out, overrides=["data.workers=0"])
    assert run.steps == 20
    assert_same_state(whole, out)
    assert read_lines(out) == read_lines(whole)
    assert not list(out.rglob("*.draft"))
    models = (out / "checkpoints").glob("step-????????.safetensors")
    assert sorted(int(path.stem[5:]) for path in models) == states_of(out) == [15, 20]


@pytest.mark.parametrize(
    ("moment", "workers"),
    [
        ("in the state of step 10", 0),
        pytest.param("in the state of step 10", 2, marks=SLOW),
        pytest.param("in the model of step 10", 2, marks=SLOW),
    ],
)
def test_e9_a_save_that_is_killed_leaves_the_state_before(
    data: Path, whole: Path, tmp_path: Path, moment: str, workers: int
) -> None:
    settings = tiny_run(data)
    settings = replace(settings, data=replace(settings.data, workers=workers))
    kill_at(settings, tmp_path, tmp_path / "run", moment)
    check_goes_on(whole, tmp_path / "run", 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "last"), [("after step 3", 0), ("after step 9", 5), ("after step 13", 10)]
)
def test_e8_a_killed_run_goes_on_bit_for_bit(
    data: Path, whole: Path, tmp_path: Path, moment: str, last: int
) -> None:
    """In the middle of an epoch, with workers; the rest is made by another number of them."""
    settings = tiny_run(data)
    settings = replace(settings, data=replace(settings.data, workers=2))
    kill_at(settings, tmp_path, tmp_path / "run", moment)
    check_goes_on(whole, tmp_path / "run", last)


@pytest.mark.slow
def test_e8_a_run_that_is_killed_at_random_moments_ends_the_same(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    settings = tiny_run(data)
    recipe = write_recipe(
        tmp_path / "recipe.json", replace(settings, data=replace(settings.data, workers=2))
    )
    out, draw = tmp_path / "run", random.Random(0)
    for _ in range(30):
        left, wait = draw.randrange(1, 9), draw.uniform(0, 0.05)
        with started(recipe, out, "") as child:
            assert child.stdout is not None
            for line in child.stdout:
                left -= 1
                if not left or line == "done\n":
                    break
            if line == "done\n":
                break
            signal.sigtimedwait([], wait)
    else:
        pytest.fail("the run never came to its end")
    assert_same_state(whole, out)
    assert read_lines(out) == read_lines(whole)


def test_e8_a_stopped_run_goes_on_bit_for_bit(data: Path, whole: Path, tmp_path: Path) -> None:
    count = iter(range(1, 100))
    run = train(tiny_run(data), tmp_path / "run", stop=lambda: next(count) == 7)
    assert (run.steps, run.stopped) == (7, True)
    assert run.history[-1] == {"step": 7, "stopped_before": 20}
    again = resume(tmp_path / "run")
    assert (again.steps, again.stopped) == (20, False)
    assert_same_state(whole, tmp_path / "run")
    assert read_lines(tmp_path / "run") == read_lines(whole)
    for name, tensor in ecliptic.load(whole).model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


def stop_after(settings: TrainSettings, out: Path, steps: int) -> None:
    count = iter(range(1, steps + 1))
    train(settings, out, stop=lambda: next(count) == steps)


def test_e8_another_environment_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(tiny_run(data, steps=3), tmp_path, 1)
    facts = json.loads((tmp_path / "run.json").read_text())
    assert {"ecliptic", "torch", "numpy", "python", "seed", "data", "threads"} <= facts.keys()
    (tmp_path / "run.json").write_text(json.dumps(facts | {"torch": "1.0", "threads": 64}))
    with pytest.warns(ResumeWarning, match=r"torch was 1\.0, is .*; threads was 64, is"):
        resume(tmp_path)


def test_e8_each_session_is_compared_with_the_one_before(data: Path, tmp_path: Path) -> None:
    """The facts of the first session once stayed, so that a change was named again and again."""
    stop_after(tiny_run(data, steps=3), tmp_path, 1)
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["kind"] == "alone"
    (tmp_path / "run.json").write_text(json.dumps(facts | {"threads": 64, "kind": "fsdp"}))
    count = iter((1, 2))
    with pytest.warns(ResumeWarning, match=r"threads was 64, is .*; kind was fsdp, is alone"):
        resume(tmp_path, stop=lambda: next(count) == 1)
    assert json.loads((tmp_path / "run.json").read_text()) == facts
    assert resume(tmp_path).steps == 3  # without a warning


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_e8_how_processes_share_the_weights_is_a_fact(kind: str) -> None:
    facts = partial(list_facts, torch.device("cpu"), data="", precision="fp32", seed=0)
    assert facts(processes=1, kind=kind)["kind"] == "alone"
    before = facts(processes=2, kind="ddp")
    changes = find_changes(before, facts(processes=2, kind=kind))
    assert changes == ([] if kind == "ddp" else ["kind was ddp, is fsdp"])


def test_e8_other_data_is_refused(tmp_path: Path) -> None:
    data, out = write_folder(tmp_path / "data", 12), tmp_path / "run"
    stop_after(tiny_run(data, steps=3), out, 1)
    (data / "3.txt").write_text("another caption")
    with pytest.raises(StorageError, match="training data is not that of the run any more"):
        resume(out)
    assert states_of(out) == [1]


def test_e8_a_copy_of_the_data_is_told_by_its_times_and_goes_on(tmp_path: Path) -> None:
    data, out = write_folder(tmp_path / "data", 12), tmp_path / "run"
    stop_after(tiny_run(data, steps=3), out, 1)
    for file in data.iterdir():
        os.utime(file, (1, 1))
    with pytest.warns(ResumeWarning, match="the files of its data have other times, as copies"):
        assert resume(out).steps == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.rate=1", r"another optim\.rate: it was 0\.001, not 1\.0; start a new run"),
        ("steps=30", "another steps: it was 3, not 30"),
        ("loss.kind=siglip", r"loss has no field|another loss\."),
        ("data.bach=4", "did you mean 'batch'"),
    ],
)
def test_a_run_cannot_become_another(data: Path, tmp_path: Path, change: str, message: str) -> None:
    stop_after(tiny_run(data, steps=3), tmp_path, 1)
    with pytest.raises(ConfigError, match=message):
        resume(tmp_path, overrides=[change])


def test_what_changes_no_weight_may_change(data: Path, tmp_path: Path) -> None:
    """The steps too, where no rate depends on them."""
    settings = tiny_run(data, steps=3)
    settings = replace(settings, optim=replace(settings.optim, schedule="constant"))
    train(settings, tmp_path)
    seen: list[dict[str, Any]] = []
    run = resume(tmp_path, seen.append, overrides=["steps=5", "log_every=1", "checkpoints.keep=1"])
    assert run.steps == 5
    assert [line["step"] for line in seen if "loss" in line] == [4, 5]
    assert json.loads((tmp_path / "settings.json").read_text())["steps"] == 5
    assert states_of(tmp_path) == [5]
    with pytest.raises(ConfigError, match=r"steps = 4, but the run in .* has made 5"):
        resume(tmp_path, overrides=["steps=4"])


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no training run"):
        resume(tmp_path)


def test_a_run_goes_on_after_its_data_was_moved(tmp_path: Path) -> None:
    """`data.root` may change: files count by their names in the source."""
    data = write_folder(tmp_path / "data")
    steps = iter(range(100))
    train(tiny_run(data), tmp_path / "run", stop=lambda: next(steps) == 5)
    data.rename(tmp_path / "moved")
    found = resume(tmp_path / "run", overrides=[f"data.root={tmp_path / 'moved'}"])
    assert found.steps == 20
