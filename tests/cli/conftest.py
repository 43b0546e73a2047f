"""A tiny model on disk and a few images, which every command's tests use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from ecliptic.checkpoints import write
from ecliptic.cli.main import app
from tests import tiny

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny two-tower model in ecliptic's own layout."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return str(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a.png, sub/b.png, a file that is no image, and a text to leave alone."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "sub/b.png")):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 50 + seed, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""
    return lambda *words, **more: CliRunner().invoke(app, [str(word) for word in words], **more)
