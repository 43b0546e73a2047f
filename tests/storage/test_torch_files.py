"""Files of PyTorch are read as PyTorch reads them."""

import argparse
import warnings
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecliptic.storage.pickled.pickle_names import Inert
from ecliptic.storage.pickled.torch_files import read_torch

DTYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8),
    *(torch.int16, torch.int32, torch.int64, torch.bool, torch.uint16, torch.float8_e4m3fn),
    *(torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
    *(torch.complex64, torch.complex128),
)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3), Block(4))
        self.scale = nn.Parameter(torch.tensor(4.6))
        self.register_buffer("halves", torch.ones(3, dtype=torch.bfloat16))
        self.input_resolution = 224
        self.eps = 1e-5
        self.layers = [3, 4, 6]
        self.label = "tiny"

    def forward(self, x: Tensor) -> Tensor:
        bias = self.halves.sum().float() + self.input_resolution + self.eps + self.layers[0]
        return self.blocks(x) * self.scale + bias + len(self.label)


def tower() -> Tower:
    torch.manual_seed(0)
    return Tower().eval()


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert found[name].shape == value.shape, name
        assert found[name].stride() == value.stride(), name
        wide = torch.complex128 if value.is_complex() else torch.float64
        assert torch.equal(found[name].to(wide), value.to(wide)), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_every_dtype_are_read_as_they_were_saved(
    tmp_path: Path, protocol: int, zipped: bool
) -> None:
    state = {str(dtype): torch.arange(2, 14).to(dtype) for dtype in DTYPES}
    state["complex values"] = torch.tensor([1 - 2j, 3j])
    path = tmp_path / "x.pt"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    archive = read_torch(path)
    assert archive.kind == ("zip" if zipped else "legacy")
    assert_same(archive.tensors, state)
    if zipped and protocol == 2:  # torch.load itself reads these without a warning
        assert_same(archive.tensors, torch.load(path, "cpu", weights_only=True))


@pytest.mark.parametrize("zipped", [True, False])
def test_views_share_their_storage_and_keep_their_strides(tmp_path: Path, zipped: bool) -> None:
    whole = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    state = {
        "whole": whole,
        "transposed": whole.t(),
        "columns": whole[1:, ::2],
        "row": whole[5],
        "expanded": whole[0].expand(3, 4),
        "scalar": whole[2, 3],
        "empty": torch.empty(0, 3),
    }
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch(tmp_path / "x.pt").tensors
    assert_same(found, torch.load(tmp_path / "x.pt", weights_only=True))
    assert found["row"].untyped_storage().data_ptr() == found["whole"].data_ptr()


@pytest.mark.parametrize("freeze", ["script", "trace"])
def test_torchscript_gives_the_state_dict_and_the_numbers_beside_it(
    tmp_path: Path, freeze: str
) -> None:
    path = tmp_path / "x.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; OpenAI's files remain
        module = tower()
        make: Callable[[], Any] = lambda: torch.jit.script(module)  # noqa: E731
        if freeze == "trace":
            make = lambda: torch.jit.trace(module, torch.ones(2, 3))  # noqa: E731
        make().save(str(path))
        wanted = torch.jit.load(str(path)).state_dict()
    archive = read_torch(path)
    assert archive.kind == "torchscript"
    assert_same(archive.tensors, wanted)
    if freeze == "script":
        assert archive.metadata["input_resolution"] == 224
        assert archive.metadata["label"] == "tiny"
        assert archive.metadata["layers.2"] == 6
        assert archive.metadata["eps"] == 1e-5


def test_training_checkpoints_give_their_tree(tmp_path: Path) -> None:
    model = tower()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    saved = {
        "epoch": 3,
        "name": "run",
        "state_dict": OrderedDict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "lr": np.float64(0.1),
        "args": argparse.Namespace(lr=0.1),
        "parameter": nn.Parameter(torch.ones(2)),
        "device": torch.device("cpu"),
        "seen": {1, 2},
    }
    torch.save(saved, tmp_path / "x.pt")
    tree = read_torch(tmp_path / "x.pt").tree
    assert isinstance(tree, dict)
    assert_same(tree["state_dict"], model.state_dict())
    assert (tree["epoch"], tree["name"], tree["device"]) == (3, "run", "cpu")
    torch.testing.assert_close(
        tree["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )
    assert tree["args"] == Inert("argparse.Namespace")
    assert isinstance(tree["lr"], Inert)
    assert not tree["parameter"].requires_grad
    assert sorted(tree["seen"]) == [1, 2]


def test_tensors_are_mapped_and_writing_to_them_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    before = path.read_bytes()
    read_torch(path).tensors["a"].fill_(1.0)
    assert path.read_bytes() == before
    assert read_torch(path).tensors["a"].sum() == 0


def test_the_real_heads_at_hand_are_read_as_torch_reads_them() -> None:
    folder = Path(__file__).parents[3] / "shared" / "artefacts"
    files = sorted(folder.glob("*aesthetic/*.pth"))
    if not files:
        pytest.skip("the released aesthetic heads are not in ../shared")
    for path in files:
        assert_same(read_torch(path).tensors, torch.load(path, "cpu", weights_only=True))


def test_a_default_dict_of_numbers_is_read_as_a_dict(tmp_path: Path) -> None:
    for kind in (int, float, str, bool):
        torch.save({"a": torch.ones(2), "counts": defaultdict(kind, b=kind(1))}, tmp_path / "x.pt")
        archive = read_torch(tmp_path / "x.pt")
        assert archive.metadata == {"counts.b": kind(1)}
        assert archive.tensors.keys() == {"a"}


def test_counters_complex_numbers_and_bytes_are_read(tmp_path: Path) -> None:
    saved = {
        "milestones": Counter({30: 1, 60: 2}),
        "seeds": {1 << 31: "a", (1 << 60) + 1: "b", -(1 << 40): "c"},
        "complex": 1 - 2j,
        "state": (1 << 128) - 1,  # of a random generator
    }
    for protocol in (2, 4):
        torch.save(saved, tmp_path / "x.pt", pickle_protocol=protocol)
        assert read_torch(tmp_path / "x.pt").tree == saved
    for protocol in (2, 3, 4, 5):
        data = {"bytes": bytearray(b"abc"), "a": torch.ones(1)}
        torch.save(data, tmp_path / "x.pt", pickle_protocol=protocol)
        archive = read_torch(tmp_path / "x.pt")
        assert archive.tensors.keys() == {"a"}
        assert archive.tree["bytes"] in (b"abc", Inert("builtins.bytearray"))  # type: ignore[index]


def test_a_number_too_long_to_print_is_only_named(tmp_path: Path) -> None:
    torch.save({"step": 10**5000, "width": 8}, tmp_path / "x.pt")
    archive = read_torch(tmp_path / "x.pt")
    assert archive.tree == {"step": Inert("builtins.int"), "width": 8}
    assert archive.metadata == {"width": 8}


def test_what_is_shared_in_a_file_is_shared_when_read(tmp_path: Path) -> None:
    tied, betas = torch.ones(2), [0.9, 0.999]
    torch.save({"a": tied, "b": [tied], "groups": [{"betas": betas}] * 2}, tmp_path / "x.pt")
    archive = read_torch(tmp_path / "x.pt")
    assert archive.tensors.keys() == {"a", "b.0"}
    assert archive.tensors["a"] is archive.tensors["b.0"]
    assert archive.metadata == {f"groups.{i}.betas.{j}": betas[j] for i in (0, 1) for j in (0, 1)}


def test_a_large_training_checkpoint_is_far_below_the_limits(tmp_path: Path) -> None:
    """As many tensors as bigG/14 with AdamW, and a log of every step; the weights are tiny."""
    weights = {f"transformer.resblocks.{i}.mlp.c_fc.weight": torch.zeros(8) for i in range(1500)}
    state = {
        i: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(8), "exp_avg_sq": torch.zeros(8)}
        for i in range(1500)
    }
    log = [{"step": i, "loss": 0.5} for i in range(10_000)]
    saved = {"state_dict": weights, "optimizer": {"state": state}, "log": log}
    torch.save(saved, tmp_path / "x.pt")
    archive = read_torch(tmp_path / "x.pt")
    assert len(archive.tensors) == 6000
    assert len(archive.metadata) == 20_000


def test_views_without_number_are_read_from_one_storage(tmp_path: Path) -> None:
    torch.save(list(torch.arange(12_000.0).unbind()), tmp_path / "x.pt")
    assert len(read_torch(tmp_path / "x.pt").tensors) == 12_000
