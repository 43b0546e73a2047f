"""Bytes of a file as tensors, without copying them: memory-mapped, private, read when touched.

The mapping is copy-on-write: the tensors can be written to, the file never changes. Replace a
file that may be mapped by renaming a new one over it; truncating it in place kills the reader.
"""

import mmap
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError

MAX_DIMENSIONS = 64  # of a tensor, PyTorch's own limit
WIDEST = 8  # bytes of the widest dtype of weights


def map_file(path: Path) -> mmap.mmap:
    """The bytes of `path`, mapped copy-on-write.

    Raises:
        CorruptFileError: the file is empty.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise CorruptFileError(f"{path} is empty (0 bytes); fetch it again.")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def bytes_tensor(memory: mmap.mmap, start: int, size: int, item: int = WIDEST) -> Tensor:
    """(size,) uint8 over `memory[start : start + size]`; copied only if not aligned to `item`.

    One 4-byte scalar, such as a temperature, shifts all that follows it in a safetensors file, so
    float32 must not ask for more than its own 4 bytes. Matmuls are as fast there.
    """
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    view = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start)
    return view.clone() if start % item else view
