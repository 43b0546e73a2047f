"""The moving average of the weights is what a run evaluates, returns and writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import ecliptic
from ecliptic.model import TwoTowers
from ecliptic.train import DataSettings, train
from ecliptic.train.evaluation import Evaluation
from ecliptic.train.run_folder import RunFolder
from ecliptic.train.settings import EmaSettings, EvaluateSettings, FolderConfig

from .trainees import SETTINGS


@pytest.mark.filterwarnings("ignore::ecliptic.train.session.HealthWarning")
def test_a_run_evaluates_and_writes_its_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"picture {number}\n")
    seen: list[dict[str, Tensor]] = []
    measure = Evaluation.measure

    def look(self: Evaluation, model: TwoTowers, *more: Any) -> dict[str, float]:
        seen.append({name: w.clone() for name, w in model.state_dict().items()})
        return measure(self, model, *more)

    monkeypatch.setattr(Evaluation, "measure", look)
    source: Any = FolderConfig(Path())
    settings = replace(
        SETTINGS,
        steps=4,
        ema=EmaSettings(decay=0.9),
        data=DataSettings(root=tmp_path, sources=(source,), batch=8, held_out=0.3),
        evaluate=EvaluateSettings(every=4),
    )
    run = train(settings, tmp_path / "run")
    state = RunFolder(tmp_path / "run", 1).last()
    assert state
    written = ecliptic.load(tmp_path / "run").model.state_dict()
    for name, weight in run.model.state_dict().items():
        average = state.tensors[f"average.model.{name}"]
        assert torch.equal(seen[-1][name], average), name
        assert torch.equal(weight, average), name
        assert torch.equal(written[name].float(), average.float()), name
    assert not torch.equal(average, state.tensors[f"weights.model.{name}"])
