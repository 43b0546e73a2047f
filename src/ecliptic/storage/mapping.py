"""Tensors over the mapped bytes of a file: nothing is copied, pages are read when they are used.

A page that was read counts as memory of the process as long as the file is mapped. So whoever
copies a tensor gives its pages back with `release`, or the weights would be in memory twice.
"""

import math
import mmap
import sys
from contextlib import suppress
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

MAX_DIMENSIONS = 64  # of a tensor, PyTorch's own limit
WIDEST = 8  # bytes of the widest dtype of weights
_PIECE = 1 << 20  # bytes of a mapped file that are copied before their pages are given back
_PAGE_OUT = 21  # MADV_PAGEOUT of Linux, which Python's mmap does not name
_MAPS: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # those in use, by address


def bytes_tensor(memory: mmap.mmap, start: int, size: int, item: int = WIDEST) -> Tensor:
    """(size,) uint8 over `memory[start : start + size]`; copied only if not aligned to `item`.

    A 4-byte scalar, such as the temperature, shifts all tensors after it in a safetensors file. So
    float32 asks for an alignment of 4 bytes only; matmuls are as fast with it.
    """
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    view = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=start)
    _MAPS[view.data_ptr() - start] = memory
    if start % item == 0:
        return view
    return copy_out(view)


def copy_out(source: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A copy in `dtype`, by default the same; pages of a mapped file are given back on the way.

    So a large tensor is not in memory twice. Nothing may have been written to `source`.
    """
    copy = torch.empty_like(source, dtype=dtype)
    pieces = [(source, copy)]
    if source.is_contiguous():
        flat, count = source.view(-1), max(1, _PIECE // source.element_size())
        parts = torch.split(flat, count), torch.split(copy.view(-1), count)
        pieces = list(zip(*parts, strict=True))
    for old, new in pieces:
        new.copy_(old)
        release(old)
    return copy


def release(tensor: Tensor) -> None:
    """Give back the pages of a mapped file under `tensor`, which was copied or is not needed.

    Its values stay: the next use reads the pages again. Pages that it shares with its neighbours
    stay in memory, and other memory is left alone. Nothing may have been written to the tensor;
    `page_out` is for those of others.
    """
    if hasattr(mmap, "MADV_DONTNEED"):
        _advise(tensor, mmap.MADV_DONTNEED)


def page_out(tensor: Tensor) -> None:
    """As `release`, but what was written to the tensor is kept; does nothing before Linux 5.4."""
    if sys.platform == "linux":
        with suppress(OSError):  # the system does not know it
            _advise(tensor, _PAGE_OUT)


def _advise(tensor: Tensor, advice: int) -> None:
    if tensor.device.type != "cpu" or type(tensor) not in (Tensor, nn.Parameter):
        return  # other kinds of tensors have no memory of their own
    first, size = tensor.data_ptr(), tensor.nbytes
    if not tensor.is_contiguous():
        storage = tensor.untyped_storage()
        first, size = storage.data_ptr(), storage.nbytes()
    after = first + size
    for found in _MAPS.valuerefs():
        memory, base = found(), found.key
        if memory is None or not base <= first < after <= base + len(memory):
            continue
        start = -(-(first - base) // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (after - base) // mmap.PAGESIZE * mmap.PAGESIZE
        if start < end:
            memory.madvise(advice, start, end - start)
        return


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
