"""A tiny model of random weights, and drawings made by the tests."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, load
from tests import tiny


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A tiny two-tower model."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return load(path, device="cpu")


@pytest.fixture(scope="session")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Another one, with vectors of the same size in another space."""
    path = tmp_path_factory.mktemp("models") / "other"
    write(tiny.checkpoint("vit", seed=5), path)
    return load(path, device="cpu")


@pytest.fixture(scope="session")
def swords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three drawings of a sword."""
    folder = tmp_path_factory.mktemp("swords")
    for number in range(3):
        image = Image.new("RGB", (32, 32), (250, 250 - 30 * number, 240))
        draw = ImageDraw.Draw(image)
        draw.line((6 + number, 28, 24, 4 + number), (90, 90, 110), 3)
        draw.line((6, 20, 14, 27), (120, 70, 20), 3)
        image.save(folder / f"sword-{number}.png")
    return folder
