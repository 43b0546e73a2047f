"""Pages of a mapped file are given back, and nothing else is."""

import re
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from ecliptic.storage import copy_out, read_safetensors, release

VALUES = torch.arange(1 << 20, dtype=torch.float32).view(1024, 1024)  # 4 MB


@pytest.fixture
def tensors(tmp_path: Path) -> dict[str, Tensor]:
    """Three tensors that share a file, mapped."""
    stored = {"a": VALUES, "b": VALUES + 1, "c": VALUES + 2}
    safetensors.torch.save_file(stored, tmp_path / "model.safetensors")
    return read_safetensors(tmp_path / "model.safetensors").tensors


def resident() -> int:
    """Bytes of mapped files in memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"RssFile:\s+(\d+)", status)
    assert found
    return int(found[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_released_pages_leave_memory_and_come_back(tensors: dict[str, Tensor]) -> None:
    assert sum(float(x[0, 0]) for x in tensors.values()) == 3
    for tensor in tensors.values():
        tensor.max()
    before = resident()
    release(tensors["b"].t())
    assert before - resident() > 0.9 * VALUES.nbytes
    assert torch.equal(tensors["b"], VALUES + 1)


def test_a_neighbour_keeps_what_was_written_to_it(tensors: dict[str, Tensor]) -> None:
    tensors["a"][-1, -1] = -1.0
    tensors["c"][0, 0] = -1.0
    release(tensors["b"])
    assert tensors["a"][-1, -1] == tensors["c"][0, 0] == -1.0
    assert torch.equal(tensors["b"], VALUES + 1)


def test_other_memory_is_left_alone() -> None:
    other = VALUES.clone()
    release(other)
    release(torch.empty(0))
    release(torch.empty(3, device="meta"))
    assert torch.equal(other, VALUES)


def test_a_part_of_a_tensor_is_released_alone(tensors: dict[str, Tensor]) -> None:
    tensors["a"][0, 0] = -1.0
    release(tensors["a"][512:])
    assert tensors["a"][0, 0] == -1.0
    assert torch.equal(tensors["a"][512:], VALUES[512:])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_copy_gives_the_pages_back(tensors: dict[str, Tensor], dtype: torch.dtype | None) -> None:
    """Also a transposed one, an odd number of values, a scalar and none."""
    source = tensors["b"]
    sources = [source, source.t(), source.view(-1)[3:], source[5, 7], source[:0], torch.ones(3)]
    for given in sources:
        copy = copy_out(given, dtype)
        assert copy.dtype == (dtype or torch.float32)
        assert torch.equal(copy, given.to(copy.dtype))
        assert copy.data_ptr() != given.data_ptr() or not given.numel()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_copy_never_has_the_whole_source_in_memory(tensors: dict[str, Tensor]) -> None:
    copy_out(tensors["c"])  # pages of torch's own code
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak()
    copy = copy_out(tensors["c"])
    assert _peak() - before < copy.nbytes + VALUES.nbytes // 2


def _peak() -> int:
    """The largest memory of this process since the last reset, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) * 1024
