"""The tiny ViT, as a file and loaded, once for each test module."""

from pathlib import Path

import pytest

import ecliptic
from ecliptic.engine import Clip
from tests import tiny
from tests.engine.models import save


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny.checkpoint("vit"), tmp_path_factory.mktemp("model") / "vit")


@pytest.fixture(scope="module")
def clip(path: Path) -> Clip:
    return ecliptic.load(path)
