"""The tiny ViT, as a file and loaded, once for each test module, and with a cache for each test."""

from pathlib import Path

import pytest

import ecliptic
from ecliptic.engine import Clip
from tests import tiny
from tests.engine.models import draw, reload, save


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny.checkpoint("vit"), tmp_path_factory.mktemp("model") / "vit")


@pytest.fixture(scope="module")
def clip(path: Path) -> Clip:
    return ecliptic.load(path)


@pytest.fixture
def cached(tmp_path: Path) -> Clip:
    """The same model with an empty cache."""
    return reload(tiny.checkpoint("vit"), tmp_path / "vit", cache=tmp_path / "cache")


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """One drawn image as a file."""
    draw().save(tmp_path / "one.png")
    return tmp_path / "one.png"
