"""Runs a tower in batches, halved when memory runs out; checks that rows are finite. B batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from ecliptic.checks import check_count, rows_not_finite
from ecliptic.errors import NumericalError


class Batcher:
    """Runs a tower over rows, `size` at a time; halves `size` when memory runs out."""

    def __init__(self, size: int) -> None:
        self.size = check_count("batch_size", size)

    def run(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """`encode` of every row, in order."""
        done: list[Tensor] = []
        start = 0
        while start < len(rows):
            try:
                done.append(encode(rows[start : start + self.size]))
            except RuntimeError as error:
                if self.size == 1 or not is_out_of_memory(error):
                    raise
                self.size = max(1, min(self.size, len(rows) - start) // 2)
                continue
            start += self.size
        return torch.cat(done)


def check_rows(vectors: Tensor, names: Callable[[int], str]) -> None:
    """Raise NumericalError if a row is not finite; `names(i)` says which item it is."""
    if bad := rows_not_finite(vectors):
        raise numerical_error(names(bad[0]), len(bad) - 1)


def numerical_error(name: str, more: int = 0) -> NumericalError:
    """The error for an item whose vector is not finite, and for `more` others."""
    return NumericalError(
        f"the model gave NaN or infinity for {name}{f' and {more} more' if more else ''}; fp16 "
        'overflows in some models, so load with precision="fp32" or "bf16"; if that fails, a '
        "weight is damaged."
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error class for it, CPU and Metal only messages."""
    words = ("can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)
