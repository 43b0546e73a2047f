"""Batches shrink when memory runs out, and an error names the row of a NaN."""

import pytest
import torch
from torch import Tensor

from ecliptic.engine.batches import Batcher, check_rows
from ecliptic.errors import NumericalError

CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
ROWS = torch.arange(10.0)[:, None]


class Memory:
    """A tower that doubles its rows, and has memory for `room` of them."""

    def __init__(self, room: int, error: RuntimeError = CPU) -> None:
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.sizes.append(len(rows))
        if len(rows) > self.room:
            raise self.error
        return rows * 2


@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_rows_come_back_in_order_whatever_the_size(size: int) -> None:
    assert torch.equal(Batcher(size).run(Memory(99), ROWS), ROWS * 2)


@pytest.mark.parametrize("error", [CPU, CUDA])
def test_a_batch_is_halved_when_memory_runs_out_and_stays_so(error: RuntimeError) -> None:
    tower, batcher = Memory(3, error), Batcher(64)
    assert torch.equal(batcher.run(tower, ROWS), ROWS * 2)
    assert tower.sizes == [10, 5, 2, 2, 2, 2, 2]
    tower.sizes.clear()
    batcher.run(tower, ROWS)
    assert tower.sizes == [2] * 5


def test_one_row_too_large_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Batcher(4).run(Memory(0, CUDA), ROWS)


def test_other_errors_are_not_tried_again() -> None:
    tower = Memory(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        Batcher(4).run(tower, ROWS)
    assert tower.sizes == [4]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_no_number_is_named(bad: float) -> None:
    vectors = torch.ones(4, 3)
    check_rows(vectors, str)
    vectors[2, 1] = bad
    with pytest.raises(NumericalError, match=r"item 2; .*precision=\"fp32\""):
        check_rows(vectors, lambda i: f"item {i}")
    vectors[3, 0] = bad
    with pytest.raises(NumericalError, match="item 2 and 1 more"):
        check_rows(vectors, lambda i: f"item {i}")
