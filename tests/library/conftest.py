"""A tiny model, a folder of small pictures, and a library of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from ecliptic.library import Library
from tests import tiny
from tests.library.photos import save_photo


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library-model") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return path


@pytest.fixture(scope="session")
def clip(model: Path) -> Clip:
    return ecliptic.load(str(model))


@pytest.fixture(scope="session")
def other_clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("library-model") / "other"
    write(tiny.checkpoint("vit", seed=1), path)
    return ecliptic.load(str(path))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a.png, b.png and sub/c.png, of different contents."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        save_photo(folder / name, seed)
    return folder


@pytest.fixture
def library(tmp_path: Path, clip: Clip) -> Iterator[Library]:
    """An empty library."""
    with Library.create(tmp_path / "photos.library", clip) as made:
        yield made
