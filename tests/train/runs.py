"""Tiny runs: settings of a model of 32 pixels, and a folder of images with captions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig
from ecliptic.settings import to_dict
from ecliptic.storage import read_safetensors
from ecliptic.train import DataSettings, OptimSettings, TrainSettings
from ecliptic.train.settings import CheckpointSettings, EmaSettings, EvaluateSettings, FolderConfig

SPEC = TokenizerSpec(merges=300, context=24)
MODEL = ClipConfig(
    embed=16,
    image=ResNetConfig(image_size=32, width=8, depths=(1, 1, 1, 1), heads=4),
    text=TextConfig(
        vocabulary=SPEC.vocabulary,
        context=24,
        width=16,
        depth=1,
        heads=1,
        mlp=32,
        end_of_text=SPEC.end_of_text,
    ),
)


def write_folder(folder: Path, count: int = 48) -> Path:
    """Images of 40 pixels that differ in colour and in a stripe, each with two captions."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for number in range(count):
        picture = np.full((40, 40, 3), draw.integers(0, 256, 3), np.uint8)
        picture[number % 8 * 5 :, :] = draw.integers(0, 256, 3)
        Image.fromarray(picture).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}\nthing {number}\n")
    return folder


def tiny_run(data: Path, **changes: Any) -> TrainSettings:
    """A run of 20 steps of 8 of 36 pairs, with batch norms, a moving average and 12 pairs held out.

    The steps that are logged, evaluated and saved do not coincide.
    """
    fields: dict[str, Any] = {
        "name": "tiny",
        "steps": 20,
        "precision": "fp32",
        "log_every": 3,
        "model": MODEL,
        "image_spec": ImageSpec(size=32),
        "tokenizer_spec": SPEC,
        "data": DataSettings(root=data, sources=(FolderConfig(Path()),), batch=8, held_out=0.25),
        "optim": OptimSettings(rate=1e-3, warmup=2),
        "ema": EmaSettings(decay=0.9),
        "evaluate": EvaluateSettings(every=10),
        "checkpoints": CheckpointSettings(every=5, minutes=0, keep=2),
    }
    return TrainSettings(**(fields | changes))


def write_recipe(path: Path, settings: TrainSettings) -> Path:
    """A JSON file of the settings, for a process of its own."""
    path.write_text(json.dumps(to_dict(settings)))
    return path


def read_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the time."""
    times = {"data_s", "step_s", "images_per_s", "share_of_peak", "warnings"}
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in times} for line in lines]


def states_of(run: Path) -> list[int]:
    """Steps that have a state."""
    return sorted(int(p.name[5:13]) for p in (run / "checkpoints").glob("*.state.safetensors"))


def assert_same_state(one: Path, other: Path, step: int = 20) -> None:
    """All tensors of two runs are equal bit for bit: weights, averages, moments, random states."""
    name = f"checkpoints/step-{step:08}.state.safetensors"
    first, second = (read_safetensors(run / name).tensors for run in (one, other))
    assert first.keys() == second.keys()
    assert {name.split(".")[0] for name in first} == {"weights", "average", "optimiser", "random"}
    different = [name for name, tensor in first.items() if not torch.equal(tensor, second[name])]
    assert different == []
