"""Tensors with facts: what is written is read again, and no change goes unnoticed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.storage import TensorFormat, read_safetensors, write_safetensors

FORMAT = TensorFormat("thing", 1)
FACTS: dict[str, Any] = {
    "names": ["a", "b"],
    "share": 0.1,
    "none": None,
    "more": {"z": 1, "a": [1.5, True]},
}


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    rows = torch.arange(12.0).reshape(3, 4)
    return {"rows": rows.T, "row": rows[0], "half": rows.half(), "none": torch.empty(0, 3)}


@pytest.fixture
def path(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    FORMAT.write(tmp_path / "x.safetensors", FACTS, tensors)
    return tmp_path / "x.safetensors"


def test_what_is_written_is_read_again(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    facts, found = FORMAT.read(path)
    assert facts == FACTS
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    found["row"] += 1  # a copy, which may be changed
    torch.testing.assert_close(FORMAT.read(path)[1]["row"], tensors["row"])


@pytest.mark.parametrize(
    "edit", [{"share": 0.2}, {"names": ["a"]}, {"new": 1}, {"more": {"z": 1}}, {"none": 0}]
)
def test_changed_facts_are_noticed(path: Path, edit: dict[str, Any]) -> None:
    metadata = read_safetensors(path).metadata
    about = json.loads(metadata[FORMAT.key]) | edit
    save_file(load_file(path), path, {FORMAT.key: json.dumps(about)})
    with pytest.raises(CorruptFileError, match=r"was changed after .* Make the thing again"):
        FORMAT.read(path)


def test_a_file_without_a_checksum_is_named_as_what_it_is(path: Path) -> None:
    about = json.loads(read_safetensors(path).metadata[FORMAT.key])
    del about["checksum"]
    save_file(load_file(path), path, {FORMAT.key: json.dumps(about)})
    with pytest.raises(CorruptFileError, match="has no checksum, as in files of older builds"):
        FORMAT.read(path)


@pytest.mark.parametrize("how", ["value", "name", "shape", "dtype", "missing", "more"])
def test_changed_tensors_are_noticed(path: Path, how: str) -> None:
    held, metadata = load_file(path), read_safetensors(path).metadata
    row = held["row"]
    if how == "value":
        held["row"] = row + 1
    elif how == "name":
        held["raw"] = held.pop("row")
    elif how == "shape":
        held["row"] = row[None]
    elif how == "dtype":
        held["row"] = row.view(torch.int32)
    elif how == "missing":
        del held["row"]
    else:
        held["second"] = row.clone()
    save_file(held, path, metadata)
    with pytest.raises(CorruptFileError, match="was changed after it was written"):
        FORMAT.read(path)


def test_other_files_are_told_apart(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="is no other: its metadata has no ecliptic_other"):
        TensorFormat("other", 1).read(path)
    with pytest.raises(CorruptFileError, match=r"has format 1, this ecliptic reads 2; a newer"):
        TensorFormat("thing", 2).read(path)
    write_safetensors(tmp_path / "y.safetensors", {"a": torch.ones(1)}, {"format": "pt"})
    with pytest.raises(CorruptFileError, match="is no thing"):
        FORMAT.read(tmp_path / "y.safetensors")
    with pytest.raises(StorageError, match="there is no file"):
        FORMAT.read(tmp_path / "z.safetensors")


def test_files_are_not_replaced_unasked_and_need_their_suffix(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError, match="exists; choose another path, or pass overwrite=True"):
        FORMAT.write(path, {}, {"a": torch.ones(1)})
    assert path.read_bytes() == before
    FORMAT.write(path, {}, {"a": torch.ones(1)}, overwrite=True)
    assert FORMAT.read(path)[0] == {}
    with pytest.raises(StorageError, match=r"must end in \.safetensors, the format of a thing's"):
        FORMAT.write(path.with_suffix(".pt"), {}, {})
