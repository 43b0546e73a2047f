"""Tensors that do not fit into their storage, or are more than stored values, are refused."""

import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from ecliptic.errors import CorruptFileError, UnsafeFileError
from ecliptic.storage.pickled.torch_files import read_torch

from .archives import archive, tensor

LONGEST = b"\x8b" + struct.pack("<i", 9000) + b"\x01" * 9000  # an integer of 21,000 digits
VALUES = torch.tensor([1 - 2j, 3 + 4j])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tensor(b"K\x01", b"K\x04\x85", b"K\x01\x85"), "reaches past the 4 values"),
        (tensor(b"J\xff\xff\xff\xff", b"K\x04\x85", b"K\x01\x85"), "whole numbers"),
        (tensor(b"K\x00", b"K\x04\x85", b"J\xff\xff\xff\xff\x85"), "whole numbers"),
        (tensor(b"K\x00", b"K\x02\x85", b"K\x04\x85"), "reaches past"),
        (tensor(b"K\x00", b"K\x02K\x02\x86", b"K\x01\x85"), "as many strides"),
        (tensor(b"K\x00", b"\x88\x85", b"K\x01\x85"), "whole numbers"),
        (tensor(b"K\x00", b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85", b"K\x00\x85"), "repeats"),
        (tensor(b"K\x00", b"K\x04\x85", b"K\x01\x85", b"J\x00\x00\x00\x40"), "should have"),
        (tensor(b"K\x00", b"K\x04\x85", b"K\x01\x85", b"X\x01\x00\x00\x00a"), "should have"),
        (tensor(b"\x8a\x08" + b"\x7f" * 8, b"K\x04\x85", b"K\x01\x85"), "reaches past"),
        (tensor(LONGEST, b"K\x04\x85", b"K\x01\x85"), "whole numbers"),
        (tensor(b"K\x00", LONGEST + b"\x85", b"K\x00\x85"), "whole numbers"),
        (tensor(b"K\x00", b"K\x04\x85", b"K\x01\x85", LONGEST), "should have"),
    ],
)
def test_c3_tensors_outside_their_storage_are_refused(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    with pytest.raises((CorruptFileError, UnsafeFileError), match=reason):
        read_torch(archive(tmp_path / "x.pt", data))


def test_missing_and_compressed_storages_are_refused(tmp_path: Path) -> None:
    good = tensor(b"K\x00", b"K\x04\x85", b"K\x01\x85")
    assert read_torch(archive(tmp_path / "good.pt", good)).tree.shape == (4,)  # type: ignore[attr-defined]
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("x/data.pkl", good)
    with pytest.raises(CorruptFileError, match="missing"):
        read_torch(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", good)
        file.writestr("x/data/0", bytes(16))
    with pytest.raises(CorruptFileError, match="compressed"):
        read_torch(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("view", [VALUES.conj(), VALUES.conj().imag, torch._neg_view(VALUES.real)])
def test_a_negative_or_conjugate_view_is_refused(
    tmp_path: Path, view: torch.Tensor, zipped: bool
) -> None:
    """Its stored values have another sign."""
    path = tmp_path / "x.pt"
    for saved in (view, torch.nn.Parameter(view)):
        torch.save({"a": saved}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(UnsafeFileError, match=r"wrong sign; save .*resolve_neg\(\)"):
            read_torch(path)
        torch.save({"a": saved.resolve_neg().resolve_conj()}, path)
        assert torch.equal(read_torch(path).tensors["a"], saved.detach())


def test_a_negative_view_in_torchscript_is_refused(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.register_buffer("a", torch._neg_view(torch.ones(2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; OpenAI's files remain
        torch.jit.script(module).save(str(tmp_path / "x.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(UnsafeFileError, match="wrong sign"):
        read_torch(tmp_path / "x.pt")


def test_tensors_that_are_not_plain_values_are_refused_with_a_way_out(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse CSR is a beta feature
        tensors = {
            "sparse; save tensor.to_dense": [
                torch.eye(2).to_sparse(),
                torch.eye(2).to_sparse_csr(),
            ],
            "quantised; save tensor.dequ": [
                torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)
            ],
            "without values": [torch.ones(2, device="meta")],
            "nested; save the parts": [torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])],
        }
    for reason, values in tensors.items():
        for value in values:
            torch.save({"a": value}, tmp_path / "x.pt")
            with pytest.raises(UnsafeFileError, match=reason):
                read_torch(tmp_path / "x.pt")


def test_c3_a_shape_that_pytorch_cannot_count_is_refused(tmp_path: Path) -> None:
    huge = b"\x8a\x08" + bytes(7) + b"\x40"  # 2**62
    size, stride = huge + huge + b"K\x00\x87", b"K\x00K\x00K\x00\x87"
    with pytest.raises(UnsafeFileError, match="repeats"):
        read_torch(archive(tmp_path / "x.pt", tensor(b"K\x00", size, stride)))


def test_legacy_storages_of_one_key_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    whole = (tmp_path / "x.pt").read_bytes()
    values = struct.pack("<q2f", 2, 1.0, 1.0)
    head, key = whole[: -len(values)], whole[: -len(values)].rindex(b"]")
    one = head[key + 3 : head.rindex(b"q", key)] if head[key + 3 : key + 4] == b"X" else b""
    assert one
    twice = head[:key] + b"](" + one * 2 + b"e."
    (tmp_path / "x.pt").write_bytes(twice + values * 2)
    with pytest.raises(UnsafeFileError, match="two storages have the key"):
        read_torch(tmp_path / "x.pt")
