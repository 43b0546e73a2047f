"""Tiny models, and few short runs, so that a measurement takes a fraction of a second."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from ecliptic.speed import SpeedReport, SpeedSettings, measure_speed
from tests import tiny

Measure = Callable[..., SpeedReport]


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecliptic.speed.clock.MOST_RUNS", 2)
    monkeypatch.setattr("ecliptic.speed.clock.SHORTEST", 1e-4)


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Measure the tiny model of a kind; other arguments are settings."""

    def run(kind: str = "vit", precision: Any = "fp32", **settings: object) -> SpeedReport:
        path = tmp_path / kind
        write(tiny.checkpoint(kind), path)
        load: Callable[[], Clip] = partial(ecliptic.load, path, device="cpu", precision=precision)
        given = {"batches": (1, 2), "peer": "none", **settings}
        return measure_speed(load, torch.device("cpu"), SpeedSettings(**given))  # type: ignore[arg-type]

    return run
