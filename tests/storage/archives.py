"""Makes archives as torch.save writes them, also with pickles of our own."""

import io
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def archive(path: Path, data: bytes, **more: bytes) -> Path:
    """Write a zip like torch.save, with our own pickle and a storage of 4 floats."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", data)
        file.writestr("x/data/0", bytes(16))
        for name, content in more.items():
            file.writestr(f"x/{name}", content)
    return path


def small() -> bytes:
    """A complete file with two tensors."""
    buffer = io.BytesIO()
    state = OrderedDict(a=torch.arange(64.0), b=torch.ones(3, dtype=torch.float16))
    torch.save({"state_dict": state, "epoch": 1}, buffer)
    return buffer.getvalue()


def tensor(offset: bytes, size: bytes, stride: bytes, numel: bytes = b"K\x04") -> bytes:
    """The pickle of one float32 tensor over the storage "0" of 4 values."""
    identity = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    )
    return (
        b"\x80\x02" + TENSOR + b"(" + identity + numel + b"tQ" + offset + size + stride
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip
