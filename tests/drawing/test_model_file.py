"""The file of the drawing model belongs to one CLIP space, and the embedded one to `mini`."""

from pathlib import Path

import pytest
import torch

from ecliptic.checkpoints import write
from ecliptic.drawing import (
    EMBEDDED,
    load_drawing,
    read_drawing_model,
    write_drawing_model,
)
from ecliptic.engine import Clip, load
from ecliptic.errors import CorruptFileError, SpaceMismatchError
from ecliptic.model import DrawingNet
from ecliptic.storage import read_safetensors, write_safetensors
from tests import tiny
from tests.drawing.conftest import TINY


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("clip") / "tiny"
    write(tiny.checkpoint("vit"), folder, layout="ecliptic")
    return load(folder)


def test_the_embedded_model_belongs_to_mini() -> None:
    """If `mini` is trained anew, this fails until the drawing model is too."""
    model = load_drawing()
    assert model.clip.card.name == "mini"
    assert EMBEDDED.stat().st_size < 12_000_000


def test_a_file_gives_its_network_back(clip: Clip, tmp_path: Path) -> None:
    net = DrawingNet(TINY)
    write_drawing_model(tmp_path / "a.safetensors", net, clip.card.space)
    again = read_drawing_model(tmp_path / "a.safetensors", clip).net
    assert again.config == TINY
    for name, value in again.state_dict().items():
        assert torch.equal(value, net.state_dict()[name].half().float())


def test_another_space_is_refused(clip: Clip, tmp_path: Path) -> None:
    write_drawing_model(tmp_path / "a.safetensors", DrawingNet(TINY), "0" * 64)
    with pytest.raises(SpaceMismatchError, match="draws the vectors of another model than 'tiny"):
        read_drawing_model(tmp_path / "a.safetensors", clip)


def test_other_files_are_refused(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"x": torch.zeros(1)}, {"format": "pt"})
    with pytest.raises(CorruptFileError, match="is no drawing model of ecliptic"):
        read_drawing_model(path, clip)
    write_drawing_model(path, DrawingNet(TINY), clip.card.space)
    tensors, metadata = read_safetensors(path)
    fewer = {name: value.clone() for name, value in tensors.items() if name != "last.bias"}
    write_safetensors(tmp_path / "b.safetensors", fewer, metadata)
    with pytest.raises(CorruptFileError, match=r"or a damaged one: .*last\.bias"):
        read_drawing_model(tmp_path / "b.safetensors", clip)
