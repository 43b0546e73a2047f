"""A tiny model, two text encoders, images and a table that the tests of the commands share."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from ecliptic.checkpoints import write
from ecliptic.cli.main import app
from ecliptic.diffusion import Conditioner, conditioner
from ecliptic.engine import LeftOutWarning
from tests import tiny

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that writes under a relative name writes into an empty folder, not into ours."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny two-tower model in ecliptic's own layout."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return str(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with a.png, sub/b.png, a .png that is not an image, and a text file."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "sub/b.png")):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 50 + seed, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that name two tiny text encoders."""
    folder = tmp_path_factory.mktemp("encoders")
    for seed, name in enumerate("lg"):
        write(tiny.checkpoint("text", seed=seed), folder / name)
    return ["-e", str(folder / "l"), "-e", str(folder / "g"), "--any-size"]


@pytest.fixture
def sdxl(encoders: list[str]) -> Conditioner:
    """The conditioner of SDXL with these encoders."""
    return conditioner("sdxl", encoders[1:4:2], any_size=True)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three captions, two of them with the same text."""
    path = tmp_path / "captions.csv"
    path.write_text("file,caption\na.png,a cat\nb.png,a dog\nc.png,a cat\n", encoding="utf-8")
    return path


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def invoke(*words: object, **more: Any) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("default", LeftOutWarning)  # it is a note, not an error
            return CliRunner().invoke(app, [str(word) for word in words], **more)

    return invoke
