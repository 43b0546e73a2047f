"""Maps files into memory as tensors: nothing is copied, and pages are read when they are used.

The mapping is copy-on-write: writing to the tensors never changes the file. To replace a file that
may be mapped, rename a new one over it; truncating it in place crashes the reading process.
"""

import math
import mmap
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.errors import CorruptFileError
from ecliptic.storage.opening import open_regular, size_of

MAX_DIMENSIONS = 64  # of a tensor, PyTorch's own limit
WIDEST = 8  # bytes of the widest dtype of weights


def map_file(path: Path) -> mmap.mmap:
    """Map the bytes of `path` copy-on-write.

    Raises:
        CorruptFileError: the file is empty, not a regular file, or cannot be mapped.
    """
    with open_regular(path, CorruptFileError) as file:
        if not size_of(file):
            raise CorruptFileError(f"{path} is empty (0 bytes); fetch it again.")
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as error:  # a file system without mappings, or just emptied
            raise CorruptFileError(
                f"{path} cannot be mapped into memory ({error}); copy it to a local disk."
            ) from error


def bytes_tensor(memory: mmap.mmap, start: int, size: int, item: int = WIDEST) -> Tensor:
    """(size,) uint8 over `memory[start : start + size]`; copied only if not aligned to `item`.

    A 4-byte scalar, such as the temperature, shifts all tensors after it in a safetensors file. So
    float32 asks for an alignment of 4 bytes only; matmuls are as fast with it.
    """
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    view = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start)
    return view.clone() if start % item else view


def read_naturals(values: object) -> tuple[int, ...] | None:
    """Return `values` if they are a short tuple or list of whole numbers in [0, 2**63)."""
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        return None
    if any(type(value) is not int or not 0 <= value < 1 << 63 for value in values):
        return None
    return tuple(values)


def is_countable(shape: tuple[int, ...]) -> bool:
    """Whether PyTorch can count the values of `shape` in 64 bits, also beside a length of 0."""
    return math.prod(length for length in shape if length) < 1 << 63
