"""The small model that the pages of the tests are about."""

import pytest

from ecliptic.checkpoints import write
from ecliptic.engine import Clip, load
from tests import tiny


@pytest.fixture(scope="package")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), folder, layout="ecliptic")
    return load(folder)
