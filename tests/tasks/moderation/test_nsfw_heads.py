"""LAION's NSFW heads: both layouts against modules of the same structure; others are refused."""

import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ShapeError, StorageError, UnsupportedLayoutError, WeightsMismatchError
from ecliptic.scoring import is_above
from ecliptic.tasks import read_nsfw_head

E = 16


class DeepHead(nn.Module):
    """The structure of ViT-H-14's head, with small layers."""

    def __init__(self) -> None:
        super().__init__()
        sizes, parts = (E, 12, 20, 12, 8, 6, 4, 1), list[nn.Module]()
        for number, (size, following) in enumerate(pairwise(sizes)):
            parts.append(nn.Linear(size, following))
            if number < 5:
                parts += [nn.ReLU(), nn.Dropout(0.2)]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, 0]


class NormHead(nn.Module):
    """The structure of the heads of ViT-B-32 and ViT-L-14, with small layers."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.norm = nn.Module()
        self.norm.register_buffer("mean", torch.randn(E) / 4)
        self.norm.register_buffer("variance", torch.rand(E) / 16)
        self.count = len(sizes)
        for number, (size, following) in enumerate(zip((E, *sizes), sizes, strict=False), start=1):
            setattr(self, f"linear_{number}", nn.Linear(size, following))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.norm.mean) / (self.norm.variance.sqrt() + 1e-10)
        for number in range(1, self.count):
            x = getattr(self, f"linear_{number}")(x).relu()
        return getattr(self, f"linear_{self.count}")(x).sigmoid()[:, 0]


@pytest.mark.parametrize("kind", ["h14", "b32", "l14"])
def test_scores_are_those_of_the_structure(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"b32": (6, 6, 1), "l14": (6, 12, 8, 1)}
    module = (DeepHead() if kind == "h14" else NormHead(sizes[kind])).eval()
    torch.save(module.state_dict(), tmp_path / "head.pth")
    head = read_nsfw_head(tmp_path / "head.pth")
    vectors = torch.randn(40, E)
    torch.testing.assert_close(head.scores(vectors), module(F.normalize(vectors)).detach())
    assert head.embed == E
    vectors[3, 2] = float("nan")
    assert is_above(head.scores(vectors), 1e9).tolist() == [row == 3 for row in range(40)]
    with pytest.raises(ShapeError, match="takes vectors of 16 values"):
        head.scores(torch.ones(2, 7))


def test_other_heads_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.pth"
    torch.save({f"layers.{n}.{p}": torch.ones(2) for n in (0, 2, 4) for p in ("weight",)}, path)
    with pytest.raises(WeightsMismatchError, match="layers 0, 2, 4, 6, 7 rates aesthetics"):
        read_nsfw_head(path)
    torch.save({"weight": torch.ones(1, E), "bias": torch.ones(1)}, path)
    with pytest.raises(UnsupportedLayoutError, match="no head of LAION's NSFW detector"):
        read_nsfw_head(path)
    with pytest.raises(StorageError, match="there is no file"):
        read_nsfw_head(tmp_path / "missing.pth")


def test_layers_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path, state = tmp_path / "head.pth", DeepHead().state_dict()
    for name, tensor, message in (
        ("layers.3.weight", torch.ones(20, 5), r"layers.3 is \(20, 5\)"),
        ("layers.16.weight", torch.ones(2, 4), r"layers.16 is \(2, 4\) with a bias \(1,\)"),
        ("layers.6.bias", torch.full((12,), float("nan")), "must be finite"),
    ):
        torch.save({**state, name: tensor}, path)
        with pytest.raises(WeightsMismatchError, match=message):
            read_nsfw_head(path)


def test_a_saved_model_of_keras_is_refused_clearly(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "clip_autokeras.zip", "w") as archive:
        archive.writestr("clip_autokeras/saved_model.pb", "x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "saved_model.pb").write_bytes(b"x")
    for name in ("clip_autokeras.zip", "folder"):
        with pytest.raises(UnsupportedLayoutError, match="SavedModel of Keras, which is not read"):
            read_nsfw_head(tmp_path / name)
