"""The tiny ViT with both towers, loaded once for all tests of guidance."""

import pytest

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, load
from tests import tiny


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("guidance") / "tiny"
    write(tiny.checkpoint("vit"), folder, layout="ecliptic")
    return load(folder)
