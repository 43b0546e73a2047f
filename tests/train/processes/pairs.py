"""A folder of tiny pictures with captions, and the settings of a run on it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ecliptic.train.settings import (
    CheckpointSettings,
    DataSettings,
    EvaluateSettings,
    FolderConfig,
    ProcessSettings,
    TrainSettings,
)
from tests.train.processes.models import tiny_settings


def write_pairs(folder: Path, count: int = 24) -> Path:
    """Pictures of one colour each, with two captions."""
    folder.mkdir()
    colours = np.random.default_rng(0).integers(0, 255, (count, 1, 1, 3), np.uint8)
    for number, colour in enumerate(colours):
        Image.fromarray(np.tile(colour, (16, 16, 1))).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture {number}\nthing {number}\n")
    return folder


def run_settings(root: Path, kind: str = "ddp", **fields: Any) -> TrainSettings:
    """Eight steps, with a state and an evaluation every two."""
    given: dict[str, Any] = {
        "steps": 8,
        "log_every": 1,
        "data": DataSettings(root=root, sources=(FolderConfig(Path()),), batch=7, held_out=0.2),
        "checkpoints": CheckpointSettings(every=2),
        "evaluate": EvaluateSettings(every=4),
        "processes": ProcessSettings(kind, 60.0),
    }
    return tiny_settings(**given | fields)
