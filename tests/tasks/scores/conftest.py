"""A tiny model, four images and their captions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from tests import tiny

CAPTIONS = ["a cat", "two dogs", "a red car", "the sea"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A tiny random model with both towers."""
    path = tmp_path_factory.mktemp("scores") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return ecliptic.load(path, kernels="plain")  # formulas are compared to the last digits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 0.png to 3.png."""
    path = tmp_path / "images"
    path.mkdir()
    for seed in range(4):
        noise = np.random.default_rng(seed).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path / f"{seed}.png")
    return path


@pytest.fixture
def paths(folder: Path) -> list[str]:
    """The four images."""
    return [str(folder / f"{i}.png") for i in range(4)]
