"""The error for a file that is not a weight file says what it is."""

import io
import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from ecliptic.errors import CorruptFileError
from ecliptic.storage.pickled.torch_files import read_torch
from ecliptic.storage.safetensors_files import read_safetensors, read_tensors
from ecliptic.storage.sniffing import sniff

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 605157884\n"
)
PAGE = b"\n<!DOCTYPE html><html><title>404</title></html>"


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("pickle"))
    return buffer.getvalue()


def torch_save(zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (POINTER, "lfs"),
        (PAGE, "html"),
        (b'{"error": "Repository not found"}', "json"),
        (b'[{"a":1}, {"b": 2}]', "json"),
        (save({"a": torch.ones(2)}), "safetensors"),
        (torch_save(True), "zip"),
        (torch_save(False), "legacy"),
        (b"\x80\x02}.", "pickle"),
        (tar(), "tar"),
        (b"GIF89a", "image"),
    ],
)
def test_kinds_are_told_by_content(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "weights.bin").write_bytes(data)
    assert sniff(tmp_path / "weights.bin") == kind


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (
            POINTER,
            "Git LFS pointer, not the weights .605157884 bytes, sha256 abab.*lfs pull",
        ),
        (PAGE, "this is an HTML page"),
        (b'{"error": "Repository not found"}', "JSON text.*Repository not found"),
        (tar(), "tar archive"),
        (b"GIF89a and more", r"an image \(GIF\), not a model; name a model"),
    ],
)
def test_c7_what_is_no_weights_is_refused_by_both_readers(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    for read in (read_torch, read_safetensors):
        with pytest.raises(CorruptFileError, match=reason):
            read(path)


def test_each_reader_names_the_others_files(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(save({"a": torch.ones(2)}))
    with pytest.raises(CorruptFileError, match="this is a safetensors file"):
        read_torch(tmp_path / "a.pt")
    (tmp_path / "a.safetensors").write_bytes(torch_save(True))
    with pytest.raises(CorruptFileError, match=r"as torch\.save writes it"):
        read_safetensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("start", [b"PK", b"\x80"])
def test_a_header_whose_length_begins_like_another_format_is_safetensors(
    tmp_path: Path, start: bytes
) -> None:
    """The file begins with the length of its header, which may equal the first bytes of a zip."""
    path, size = tmp_path / "x.safetensors", int.from_bytes(start, "little")
    tensors = {"a": torch.ones(2)}
    bare = int.from_bytes(save(tensors, {"x": ""})[:8], "little")
    path.write_bytes(save(tensors, {"x": "y" * (size - bare)}))
    assert path.read_bytes().startswith(start)
    assert sniff(path) == "safetensors"
    assert torch.equal(read_tensors(path).tensors["a"], torch.ones(2))


def test_either_kind_of_weights_is_read_and_all_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for data in (save({"a": torch.ones(2)}), torch_save(True), torch_save(False)):
        path.write_bytes(data)
        assert torch.equal(read_tensors(path).tensors["a"], torch.ones(2))
    path.write_bytes(PAGE)
    with pytest.raises(
        CorruptFileError, match=r"an HTML page.*, not a safetensors or PyTorch file"
    ):
        read_tensors(path)
