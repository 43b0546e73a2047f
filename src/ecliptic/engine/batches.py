"""Batches that fit: halved when memory runs out, checked for numbers that are none. B batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ecliptic.errors import NumericalError

T = TypeVar("T")


class Batcher:
    """Runs a tower over rows, `size` at a time, and fewer once that was too much."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """`encode` of every row, in order; halves the batch each time memory runs out."""
        done: list[Tensor] = []
        start = 0
        while start < len(rows):
            try:
                done.append(encode(rows[start : start + self.size]))
            except RuntimeError as error:
                if self.size == 1 or not _out_of_memory(error):
                    raise
                self.size = max(1, min(self.size, len(rows) - start) // 2)
                continue
            start += self.size
        return torch.cat(done)


def chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`rows` in slices of `size`; the last may be shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def check_finite(vectors: Tensor, names: Callable[[int], str]) -> None:
    """Raise NumericalError if a row of (N, E) is not finite; `names(i)` says which item it is."""
    bad = (~torch.isfinite(vectors).all(dim=-1)).nonzero()[:, 0].tolist()
    if bad:
        raise NumericalError(
            f"the model gave NaN or infinity for {names(bad[0])}"
            f"{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}; half precision overflows in "
            'some models: load with precision="fp32" or "bf16".'
        )


def _out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it, the CPU allocator only words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
