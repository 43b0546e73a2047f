"""A run learns, is repeatable, trains only what it is told to, and names what is wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.errors import ConfigError, NumericalError, StorageError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig
from ecliptic.train import OptimSettings, train
from ecliptic.train.settings import (
    CheckpointSettings,
    EmaSettings,
    EvaluateSettings,
    FolderConfig,
    TowerSettings,
)
from tests.train.runs import read_lines, tiny_run, write_folder

UNHEALTHY = "ignore::ecliptic.train.session.HealthWarning"  # of a model that is so small


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pairs") / "data")


@pytest.mark.filterwarnings(UNHEALTHY)
def test_training_learns_and_reports_each_line(data: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    settings = tiny_run(
        data,
        steps=60,
        log_every=20,
        ema=EmaSettings(),
        optim=OptimSettings(rate=1e-3, warmup=5),
        evaluate=EvaluateSettings(every=60),
        checkpoints=CheckpointSettings(every=0, minutes=0),
    )
    run = train(settings, tmp_path, seen.append)
    losses = [line["loss"] for line in run.history if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    assert seen == list(run.history)
    assert run.history[-1]["evaluation"]["held_out.images"] == 12
    first = run.history[0]
    assert {"data_s", "step_s", "images_per_s", "share_of_peak", "norm", "scale"} <= first.keys()
    assert 0 < first["share_of_peak"] < 1
    assert not run.model.training


def test_the_same_seed_gives_the_same_run(data: Path, tmp_path: Path) -> None:
    settings = tiny_run(data, steps=3)
    runs = [train(settings, tmp_path / name).model.state_dict() for name in "ab"]
    other = train(replace(settings, seed=1), tmp_path / "c").model.state_dict()
    assert [name for name, w in runs[0].items() if not torch.equal(w, runs[1][name])] == []
    assert read_lines(tmp_path / "a") == read_lines(tmp_path / "b")
    assert not torch.equal(runs[0]["text.projection"], other["text.projection"])


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_a_checkpoint_is_tuned_where_the_settings_say(
    data: Path, tmp_path: Path, frozen: str
) -> None:
    """A frozen tower keeps its batch norms, too; the lower layers of the other one are frozen."""
    other = {"image": "text", "text": "image"}[frozen]
    train(tiny_run(data, steps=1), tmp_path / "start")
    sizes = {"model": None, "image_spec": None, "tokenizer_spec": None}
    start = {"start": str(tmp_path / "start"), "trains": other, **sizes}
    layers: Any = {other: TowerSettings(freeze_layers=1)}
    settings = tiny_run(data, steps=2, ema=EmaSettings(), **start, **layers)
    tuned = train(settings, tmp_path / "tuned").model.state_dict()
    before = ecliptic.load(tmp_path / "start").model.state_dict()
    changed = {name for name, w in before.items() if not torch.equal(w, tuned[name])}
    assert changed
    assert not any(name.startswith(f"{frozen}.") for name in changed)
    assert not any("embedding" in name or "stem" in name for name in changed)
    assert "logit_scale" in changed


def test_the_moving_average_is_what_is_written(data: Path, tmp_path: Path) -> None:
    settings = tiny_run(data, steps=4)
    averaged = train(settings, tmp_path / "a").model.state_dict()
    plain = train(replace(settings, ema=EmaSettings()), tmp_path / "b").model.state_dict()
    assert not torch.equal(averaged["text.projection"], plain["text.projection"])
    written = ecliptic.load(tmp_path / "a").model.state_dict()
    assert torch.equal(written["text.projection"], averaged["text.projection"])


def test_what_is_wrong_with_the_data_is_named(data: Path, tmp_path: Path) -> None:
    settings = tiny_run(data)
    nothing = replace(settings, data=replace(settings.data, sources=()))
    with pytest.raises(ConfigError, match="nothing to train on; name a source in data"):
        train(nothing, tmp_path / "a")
    missing = replace(settings.data, sources=(FolderConfig(Path("none")),))
    with pytest.raises(StorageError, match="there is no folder"):
        train(replace(settings, data=missing), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_images_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 12)
    (data / "5.png").write_bytes(b"no image")
    settings = tiny_run(data, steps=3, evaluate=EvaluateSettings(every=100))
    settings = replace(settings, data=replace(settings.data, held_out=0.0, batch=12))
    run = train(settings, tmp_path / "run")
    assert run.history[-1]["rejects"] == 3  # once in each epoch
    rejects = (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()
    assert len(rejects) == 3
    assert '"step": 1' in rejects[0]
    few = replace(settings, data=replace(settings.data, most_rejects=0.001))
    with pytest.raises(StorageError, match=r"2 of 24 examples could not be read, more than the"):
        train(few, tmp_path / "other")


@pytest.mark.filterwarnings(UNHEALTHY)
def test_a_run_that_diverges_ends(data: Path, tmp_path: Path) -> None:
    wild = OptimSettings(rate=1e30, warmup=0, clip=0, most_skipped=2)
    with pytest.raises(NumericalError, match=r"of the last 3 steps, .* lower optim\.rate"):
        train(tiny_run(data, optim=wild), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_spec": ImageSpec(size=64)}, "image_size 32 and image_spec.size 64 differ"),
        ({"tokenizer_spec": TokenizerSpec(merges=5)}, "the tokenizer has 519 ids"),
        ({"model": ClipConfig(text=None)}, "needs an image tower and a text tower"),
        ({"start": "mini"}, "'mini' brings its own sizes; leave model, image_spec"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    data: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(tiny_run(data), **change)
