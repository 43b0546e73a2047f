"""safetensors files are read as by the reference, or refused with the reason."""

import json
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ecliptic.errors import CorruptFileError
from ecliptic.storage.safetensors_files import DTYPES, read_safetensors, read_shards


def entry(start: int, end: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def write(path: Path, header: object, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_every_dtype_equals_the_reference_reader(tmp_path: Path) -> None:
    state = {name: torch.arange(2, 8).reshape(2, 3).to(dtype) for name, dtype in DTYPES.items()}
    state |= {"scalar": torch.tensor(4.6), "empty": torch.empty(0, 3)}
    save_file(state, tmp_path / "x.safetensors", {"format": "pt"})
    tensors, metadata = read_safetensors(tmp_path / "x.safetensors")
    wanted = load_file(tmp_path / "x.safetensors")
    assert metadata == {"format": "pt"}
    assert tensors.keys() == wanted.keys()
    for name, value in wanted.items():
        assert tensors[name].dtype == value.dtype
        assert tensors[name].shape == value.shape
        wide = torch.complex128 if value.is_complex() else torch.float64
        assert torch.equal(tensors[name].to(wide), value.to(wide)), name


def test_unaligned_data_is_read_too(tmp_path: Path) -> None:
    data = torch.arange(4.0).numpy().tobytes()
    header = json.dumps({"a": entry(0, 16, [4])}).encode()
    for padding in range(8):
        path = write(tmp_path / "x.safetensors", header + b" " * padding, data)
        assert torch.equal(read_safetensors(path).tensors["a"], torch.arange(4.0))


def test_a_scalar_before_the_weights_does_not_cause_copies(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(4), "logit_scale": torch.tensor(1.0), "text": torch.ones(6)}
    save_file(tensors, tmp_path / "x.safetensors")
    found = read_safetensors(tmp_path / "x.safetensors").tensors
    start = found["a"].data_ptr()
    assert [found[name].data_ptr() - start for name in tensors] == [0, 16, 20]


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(100)}, tmp_path / "x.safetensors")
    read_safetensors(tmp_path / "x.safetensors").tensors["a"].fill_(1)
    assert read_safetensors(tmp_path / "x.safetensors").tensors["a"].sum() == 0


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12), "overlaps"),
        ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, bytes(20), "leaves a gap"),
        ({"a": entry(4, 12, [2])}, bytes(12), "leaves a gap"),
        ({"a": entry(0, 8, [2])}, bytes(9), "1 bytes follow"),
        (
            {"a": entry(0, 8, [2])},
            bytes(7),
            "truncated: its header needs 77 bytes, but the file has 76",
        ),
        ({"a": entry(0, 8, [2], "F99")}, bytes(8), "unknown dtype 'F99'"),
        ({"a": entry(0, 8, [3])}, bytes(8), "needs 12 bytes"),
        ({"a": entry(8, 0, [2])}, bytes(8), "needs 8 bytes"),
        ({"a": entry(0, 8, [-2])}, bytes(8), "whole numbers"),
        ({"a": entry(0, 8, [2.0])}, bytes(8), "whole numbers"),
        ({"a": entry(0, 8, [True, 2])}, bytes(8), "whole numbers"),
        ({"a": entry(0, 8, [1 << 62, 1 << 62])}, bytes(8), "needs"),
        ({"a": entry(0, 8, [10**4000])}, bytes(8), "whole numbers"),
        ({"a": entry(0, 8, [1] * 65)}, bytes(8), "whole numbers"),
        ({"a": entry(0, 8, [1 << 62] * 64)}, bytes(8), "needs"),
        ({"a": entry(0, 0, [1 << 62, 1 << 62, 0])}, b"", "needs"),
        ({"a": entry(0, 8, [2]) | {"more": 1}}, bytes(8), "exactly"),
        ({"a" * 1001: entry(0, 8, [2])}, bytes(8), "more than 1000 characters"),
        ({"a": [1]}, b"", "exactly"),
        ({"__metadata__": {"a": 1}}, b"", "text to text"),
        (b'{"a": 1, "a": 2}', b"", "its header has the name 'a' twice"),
        (b'{"a": 1', b"", "its header is not JSON"),
        (b'{"a": "\xff"}', b"", "its header is not JSON"),
        (b'{"a":' * 20_000, b"", "its header is not JSON"),
    ],
)
def test_c5_headers_that_contradict_the_file_are_refused(
    tmp_path: Path, header: object, data: bytes, reason: str
) -> None:
    with pytest.raises(CorruptFileError, match=reason):
        read_safetensors(write(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize("length", [1 << 63, (1 << 64) - 1, 1 << 40])
def test_c5_an_absurd_header_length_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(CorruptFileError, match="announce a header of"):
        read_safetensors(write(tmp_path / "x.safetensors", {}, b"", length))


def test_c7_a_header_cut_off_is_called_truncated(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match=r"truncated: .* needs 1008 bytes, but"):
        read_safetensors(write(tmp_path / "x.safetensors", {}, b"", 1000))


def index(folder: Path, mapping: dict[str, str], name: str = "model.safetensors") -> Path:
    path = folder / f"{name}.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    return path


def test_shards_are_joined(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(2)}, tmp_path / "two.safetensors")
    mapping = {"a": "one.safetensors", "b": "two.safetensors"}
    assert read_shards(index(tmp_path, mapping)).tensors.keys() == {"a", "b"}


def test_pickled_shards_are_joined(tmp_path: Path) -> None:
    torch.save({"a.x": torch.ones(2)}, tmp_path / "one.bin")
    torch.save({"b": torch.zeros(2)}, tmp_path / "two.bin")
    path = index(tmp_path, {"a.x": "one.bin", "b": "two.bin"}, "pytorch_model.bin")
    assert read_shards(path).tensors.keys() == {"a.x", "b"}


@pytest.mark.parametrize("shard", ["../one", "/etc/passwd", "a/b", "..", "", "a\\b", "a\0", 3])
def test_shards_elsewhere_are_refused(tmp_path: Path, shard: str) -> None:
    with pytest.raises(CorruptFileError, match="not a file beside the index"):
        read_shards(index(tmp_path, {"a": shard}))


def test_missing_and_foreign_shards_are_named(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "one.safetensors")
    with pytest.raises(CorruptFileError, match=r"1 of 2 shards are missing .*two\.safetensors"):
        read_shards(index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}))
    with pytest.raises(CorruptFileError, match="differ in 2 tensors, such as a, c; they belong"):
        read_shards(index(tmp_path, {"c": "one.safetensors"}))


@pytest.mark.parametrize("name", ["\ud800", "a" * 256, "\u00e9" * 200])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorruptFileError, match="not a file beside the index"):
        read_shards(index(tmp_path, {"a": name}))


def test_c5_a_large_header_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    """Objects of Python take up to 30 times the bytes of their JSON."""
    tracemalloc.start()
    path = write(tmp_path / "x.safetensors", b'{"a":[' + b"[]," * 1_000_000 + b"[]]}", b"")
    for length, reason in [(None, "of up to 2000003 values"), (25_000_001, "at most 25000000")]:
        if length:
            path = write(path, b"{", b"", length)
        tracemalloc.reset_peak()
        with pytest.raises(CorruptFileError, match=reason):
            read_safetensors(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_c5_names_twice_are_counted_once(tmp_path: Path) -> None:
    """Counting each name among all others took 80 seconds for a header like this."""
    names = ",".join(f'"{i}":0' for i in range(70_000))
    path = write(tmp_path / "x.safetensors", f'{{{names},"69999":0}}'.encode(), b"")
    start = time.process_time()
    with pytest.raises(CorruptFileError, match="the name '69999' twice"):
        read_safetensors(path)
    assert time.process_time() - start < 2
