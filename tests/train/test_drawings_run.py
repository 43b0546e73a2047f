"""A run on drawings learns to name a design and concepts that it never sees."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecliptic.engine import load
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig
from ecliptic.scoring import Calibration
from ecliptic.train import DataSettings, HealthWarning, OptimSettings, TrainSettings, train
from ecliptic.train.run_folder import RunFolder
from ecliptic.train.settings import (
    CheckpointSettings,
    DrawingsConfig,
    EvaluateSettings,
    HeldOutSettings,
)

from .drawings import DESIGNS, write_data

pytestmark = pytest.mark.filterwarnings(r"ignore:step \d+")  # of the health of so small a run
SPEC = TokenizerSpec(merges=300, context=24)
EMOJI = DrawingsConfig(Path("emoji"), designs=DESIGNS[:2], weight=0.75)
SETTINGS = TrainSettings(
    steps=80,
    precision="fp32",
    log_every=20,
    model=ClipConfig(
        embed=32,
        image=ResNetConfig(image_size=32, width=8, depths=(1, 1, 1, 1), heads=4),
        text=TextConfig(
            vocabulary=SPEC.vocabulary,
            context=24,
            width=32,
            depth=1,
            heads=2,
            mlp=64,
            end_of_text=SPEC.end_of_text,
        ),
    ),
    image_spec=ImageSpec(size=32),
    tokenizer_spec=SPEC,
    optim=OptimSettings(rate=3e-3, warmup=5),
    data=DataSettings(
        sources=(EMOJI, DrawingsConfig(Path("openclipart"), weight=0.25)),
        batch=12,
        augment="drawings",
    ),
    evaluate=EvaluateSettings(
        every=80,
        calibrate=("design",),
        sets=(
            HeldOutSettings("design", replace(EMOJI, designs=("unseen",), split="all"), "names"),
            HeldOutSettings(
                "concepts", replace(EMOJI, designs=DESIGNS, split="val", example="drawing"), "names"
            ),
        ),
    ),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    root = write_data(tmp_path_factory.mktemp("data"))
    return replace(SETTINGS, data=replace(SETTINGS.data, root=root))


def test_training_learns_and_is_measured_on_unseen_drawings(
    settings: TrainSettings, tmp_path: Path
) -> None:
    run = train(settings, tmp_path / "run")
    losses = [line["loss"] for line in run.history if "loss" in line]
    assert losses[-1] < 0.85 * losses[0]
    [found] = [line["evaluation"] for line in run.history if "evaluation" in line]
    assert (found["design.images"], found["design.names"]) == (16, 16)
    assert (found["concepts.images"], found["concepts.names"]) == (3, 16)
    assert found["design.at_5"] > 0.45  # chance is 0.31
    [fit] = [line["calibration"] for line in run.history if "calibration" in line]
    assert fit["calibration"]["data"] == "design"
    assert fit["error"] < fit["plain_error"]
    assert fit["separation"] > 0.5
    kept = load(tmp_path / "run").card.calibration
    assert kept == Calibration(**fit["calibration"])


def test_the_same_seed_gives_the_same_weights_whatever_prepares_the_batches(
    settings: TrainSettings, tmp_path: Path
) -> None:
    few = replace(settings, steps=3, evaluate=EvaluateSettings())
    worked = replace(few, data=replace(few.data, workers=1))
    runs = {"first": few, "again": few, "worked": worked, "other": replace(few, seed=1)}
    weights = {n: train(s, tmp_path / n).model.state_dict() for n, s in runs.items()}
    for name, tensor in weights["first"].items():
        assert torch.equal(weights["again"][name], tensor), name
        assert torch.equal(weights["worked"][name], tensor), name
    other = weights["other"]["text.projection"]
    assert not torch.equal(weights["first"]["text.projection"], other)


def test_a_calibration_that_fails_loses_nothing(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.linalg.LinAlgError("singular")

    monkeypatch.setattr("ecliptic.train.evaluation.Evaluation.calibrate", fail)
    few = replace(settings, steps=2, checkpoints=CheckpointSettings(every=0))
    with pytest.warns(HealthWarning, match="step 2: no calibration: singular"):
        run = train(few, tmp_path / "run")
    assert (run.steps, RunFolder(tmp_path / "run", 1).steps()) == (2, [2])
    assert load(tmp_path / "run").card.calibration is None
