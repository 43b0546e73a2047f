from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ecliptic.checkpoints import Hints, read, write
from ecliptic.checkpoints.layouts.openai import INTEGERS
from ecliptic.errors import AmbiguousCheckpointError
from tests import peers, tiny
from tests.checkpoints.test_open_clip import check_outputs, check_weights, to_open_clip


class Scripted(nn.Module):
    """A module whose scripted archive has OpenAI's names, integers and a method to run."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            *parents, last = name.split(".")
            module: nn.Module = self
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, Scripted({}))
                module = getattr(module, parent)
            module.register_buffer(last, tensor)

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_torchscript_archive_is_quick_gelu_by_identity(kind: str, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint(kind, dtype=torch.float16)
    write(checkpoint, tmp_path / "plain.pt", "openai")
    state = torch.load(tmp_path / "plain.pt")
    torch.jit.script(Scripted(state)).save(str(tmp_path / "ViT-X.pt"))
    found = read(tmp_path / "ViT-X.pt")
    assert found.layout == "openai"
    assert found.name == "ViT-X"
    assert found.config == checkpoint.config
    assert found.image_spec == checkpoint.image_spec
    check_weights(found.weights, checkpoint.weights)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_reference_builder_loads_what_is_written_and_agrees(kind: str, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint(kind)
    write(checkpoint, tmp_path / "model.pt", "openai")
    state = torch.load(tmp_path / "model.pt")
    assert state.keys() == {*to_open_clip(checkpoint), *INTEGERS}
    assert int(state["input_resolution"]) == checkpoint.image_spec.size  # type: ignore[union-attr]
    build = peers.open_clip().model.build_model_from_openai_state_dict
    model = build(state, cast_dtype=torch.float32).float()
    model.load_state_dict(to_open_clip(checkpoint))  # `build` has rounded them to float16
    check_outputs(checkpoint, model)


def test_the_same_file_without_its_integers_could_be_anybodys(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    torch.save(to_open_clip(checkpoint), tmp_path / "model.pt")
    with pytest.raises(AmbiguousCheckpointError, match="activation="):
        read(tmp_path / "model.pt", Hints(heads=(2, 1)))


def test_an_argument_wins_over_the_identity(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "model.pt", "openai")
    found = read(tmp_path / "model.pt", Hints(activation="gelu", heads=(4, 2)))
    assert found.config.text == replace(
        tiny.checkpoint().config.text,  # type: ignore[type-var]
        activation="gelu",
        heads=2,
    )


def test_a_folder_gets_a_file(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path / "out", "openai")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.pt"]
    assert read(tmp_path / "out").config == tiny.checkpoint().config
