"""Tensors over the mapped bytes of a file: nothing is copied, pages are read when they are used."""

import math
import mmap

import torch
from torch import Tensor

MAX_DIMENSIONS = 64  # of a tensor, PyTorch's own limit
WIDEST = 8  # bytes of the widest dtype of weights


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
