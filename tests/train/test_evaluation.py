"""What is measured during a run, and signs that a run does not learn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecliptic.errors import ConfigError
from ecliptic.train import train
from ecliptic.train.health import HealthWatch, Spread
from ecliptic.train.settings import CheckpointSettings, OptimSettings
from ecliptic.train.stepping import StepResult
from tests.train.runs import tiny_run, write_folder
from tests.train.trainees import SETTINGS

RESULT = StepResult(loss=1.0, rate=1e-3, norm=1.0, scale=14.0, skipped=False)
CAPTIONS = torch.arange(8)


def test_held_out_examples_without_captions_are_left_out(tmp_path: Path) -> None:
    """They ended the run, though the same examples in training are replaced."""
    data = write_folder(tmp_path / "data")
    for number in range(0, 48, 4):
        (data / f"{number}.txt").write_text("\n")
    settings = tiny_run(data, steps=2)
    settings = replace(settings, data=replace(settings.data, most_rejects=0.5, held_out=0.5))
    found = train(settings, tmp_path / "run").history[-1]["evaluation"]
    assert 1 <= found["held_out.images"] < 24


@pytest.mark.parametrize("name", ["median_rank", "at_2", "images"])
def test_the_best_state_is_by_a_share_that_is_measured(name: str, tmp_path: Path) -> None:
    """A lower median rank is better; and a wrong name ended the run at its first evaluation."""
    data = write_folder(tmp_path / "data")
    best = CheckpointSettings(best=f"held_out.image_to_text.{name}")
    with pytest.raises(ConfigError, match=r"checkpoints\.best"):
        train(tiny_run(data, checkpoints=best), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def look(watch: HealthWatch, step: int, image: float, text: float) -> bool:
    """Whether a collapse is reported."""
    spread = Spread(1.0, image, text, 3.0)
    return any("collapse" in line for line in watch.look(step, RESULT, spread, CAPTIONS))


def test_random_weights_are_no_collapse() -> None:
    """Their vectors lie close together until the first steps are over."""
    watch = HealthWatch(replace(SETTINGS, optim=OptimSettings(warmup=10)))
    assert not look(watch, 1, -0.1, -0.2)
    assert not look(watch, 50, -0.4, -0.4)
    assert look(watch, 500, -0.4, -0.4)


@pytest.mark.parametrize(("image", "text"), [(-0.1, -2.0), (-2.0, -0.1), (-0.1, -0.1)])
def test_one_tower_that_collapses_is_enough(image: float, text: float) -> None:
    """Also early, if its vectors were apart."""
    watch = HealthWatch(replace(SETTINGS, optim=OptimSettings(warmup=10)))
    assert not look(watch, 10, -2.0, -2.0)
    assert look(watch, 20, image, text)


def test_a_frozen_tower_does_not_collapse() -> None:
    """Captions of a narrow domain are close to each other, which training cannot change."""
    watch = HealthWatch(replace(SETTINGS, trains="image"))
    assert not look(watch, 5000, -2.0, -0.1)
    assert look(watch, 5001, -0.1, -0.1)
