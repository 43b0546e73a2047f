"""The recipes of the package: they fit together, and begin as they did when they were recorded."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ecliptic.model import random_model
from ecliptic.settings import load_toml
from ecliptic.train import DrawingsConfig, EvaluateSettings, TrainSettings, train
from ecliptic.train.effects import find_notes, refuse_idle

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
FEW = ("data.batch=8", "data.texts.batch=8", "data.workers=0", "precision=fp32", "steps=3")
# The mean loss of steps 1 to 100, and of 101 to 200, of seed 0 on an x86 server in fp32.
CURVE = {100: 17.168, 200: 16.330}
# The cross entropies of the pairs of a batch have deviations of about 1, those over all concepts of
# about 3. A step has 128 pairs and 256 vectors to name, so its loss has sqrt(1 / 128 + 9 / 256) =
# 0.2, and the mean of 100 steps 0.02. Two such means differ by less than three times sqrt(2) of it.
NOISE = 0.09

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the training data")


def read_recipe(name: str, *overrides: str) -> TrainSettings:
    return load_toml(TrainSettings, ROOT / "recipes" / f"{name}.toml", overrides)


def run_steps(settings: TrainSettings, out: Path, steps: int) -> Iterator[dict[str, Any]]:
    """The lines of the first steps of a run, which is stopped there and not evaluated."""
    settings = replace(settings, evaluate=EvaluateSettings())
    made = count(1)
    run = train(settings, out, stop=lambda: next(made) == steps)
    return (line for line in run.history if "loss" in line)


@pytest.mark.parametrize("name", ["mini", "mini-gpu"])
def test_a_recipe_has_no_setting_without_effect(name: str) -> None:
    settings = read_recipe(name)
    refuse_idle(settings)
    assert find_notes(settings) == []


def test_the_larger_model_sees_the_data_of_the_small_one_and_nothing_held_out() -> None:
    small, large = read_recipe("mini"), read_recipe("mini-gpu")
    assert large.data.sources == small.data.sources
    assert large.data.texts.sources == small.data.texts.sources
    assert large.evaluate.sets == small.evaluate.sets
    for source in large.data.sources:
        assert isinstance(source, DrawingsConfig)
        assert "fxemoji" not in source.designs
        assert source.split == "train"
        assert source.designs or source.path != Path("emoji")


def test_the_sizes_of_the_larger_model_are_those_that_its_recipe_tells() -> None:
    model = random_model(read_recipe("mini-gpu").sizes, 0)
    parameters = sum(weight.numel() for weight in model.parameters())
    told = (ROOT / "recipes" / "mini-gpu.toml").read_text()
    assert f"{parameters / 1e6:.0f} M parameters" in told
    assert f"{2 * parameters / 1e6:.0f} MB of weights in fp16" in told


@pytest.mark.slow
@needs_data
def test_the_larger_model_takes_its_first_steps_on_a_cpu(tmp_path: Path) -> None:
    settings = read_recipe("mini-gpu", f"data.root={DATA}", *FEW, "log_every=1")
    lines = list(run_steps(settings, tmp_path / "run", 3))
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(0 < line["text_loss"] < 20 and 0 < line["loss"] < 30 for line in lines)


@pytest.mark.slow
@needs_data
def test_the_default_begins_with_the_recorded_losses(tmp_path: Path) -> None:
    """The first 200 steps; the warm-up is longer, so they do not depend on the number of steps."""
    settings = read_recipe("mini", f"data.root={DATA}", "log_every=100")
    assert settings.optim.warmup >= max(CURVE)
    lines = run_steps(settings, tmp_path / "run", max(CURVE))
    losses = {line["step"]: line["loss"] for line in lines}
    assert losses == pytest.approx(CURVE, abs=NOISE)
