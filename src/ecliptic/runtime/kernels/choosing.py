"""Chooses the quickest form of a tower's blocks: measured on this machine, then remembered.

Which kernel is quickest differs by processor, precision, sizes and number of rows, so every
candidate computes the linear layers of the first block, for as many rows as are asked for or as
fit in the time. D width, N rows: tokens of all items.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ecliptic.model import Block
from ecliptic.runtime.kernels.machine import processor
from ecliptic.runtime.kernels.memory import Measurements
from ecliptic.runtime.kernels.packed import PackedBlock, is_packable
from ecliptic.runtime.kernels.plain import BlockForm, PlainBlock
from ecliptic.runtime.kernels.widened import WidenedBlock

KernelMode: TypeAlias = Literal["auto", "plain", "compiled"]
ROWS = (16, 128, 1024)  # limits of the ranges of N that are measured apart
_MORE = 4 * ROWS[-1]  # N that stands for all above the last limit
_BUDGET = 0.25  # seconds of one choice
_ROUNDS = 30  # of one choice at most, for small models
_WORK = 1.5e9  # multiplications of one measurement at most
_GAIN = 1.03  # a form must be this much quicker than the plain one, or noise would choose
_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Kernel:
    """A form of blocks, and the dtype of its activations; None is that of the weights."""

    name: str
    form: Callable[[Block], BlockForm]
    why: str
    dtype: torch.dtype | None = None

    def cast(self, x: Tensor) -> Tensor:
        """`x` in the dtype of the activations."""
        return x if self.dtype is None else x.to(self.dtype)


_ROWS_OF_TABLE = (
    Kernel("plain", PlainBlock, "PyTorch's own linear layers"),
    Kernel("packed", PackedBlock, "weights in oneDNN's order, activation and residual inside"),
    Kernel("widened", WidenedBlock, "stored in half precision, computed in float32", torch.float32),
)
KERNELS: Mapping[str, Kernel] = MappingProxyType({row.name: row for row in _ROWS_OF_TABLE})


@dataclass(frozen=True)
class KernelChoice:
    """The outcome of one choice."""

    rows: int  # N that it holds for: up to this limit, or 0 for more than the last one
    chosen: str  # name of a kernel
    seconds: Mapping[str, float]  # kernel -> the linear layers of one block

    def describe(self) -> str:
        """For people: "packed up to 128 rows (plain 1.5 ms, packed 1.1 ms)"."""
        size = f"up to {self.rows:,} rows" if self.rows else f"above {ROWS[-1]:,} rows"
        times = ", ".join(f"{name} {1000 * s:.2g} ms" for name, s in self.seconds.items())
        return f"{self.chosen} {size}" + (f" ({times})" if times else "")


def candidates(block: Block) -> list[Kernel]:
    """The kernels that can compute `block`, the plain one first."""
    weight = block.mlp.up.weight
    found = [KERNELS["plain"]]
    if is_packable(block):
        found.append(KERNELS["packed"])
    if weight.device.type == "cpu" and weight.dtype in _HALVES:
        found.append(KERNELS["widened"])
    return found


def every_range() -> tuple[int, ...]:
    """One number of rows in each range."""
    return (*ROWS, _MORE)


def limit_of(rows: int) -> int:
    """The range that `rows` falls in: its upper limit, or 0 above the last one."""
    return next((limit for limit in ROWS if rows <= limit), 0)


def choose(block: Block, rows: int, memory: Measurements) -> KernelChoice:
    """The quickest kernel for `rows` rows; measured in about 0.3 s unless it is remembered."""
    if (known := recall(block, rows, memory)) is not None:
        return known
    limit = limit_of(rows)
    seconds = _measure(block, candidates(block), rows)
    memory.put(_key(block, limit), seconds)
    return _decide(limit, seconds)


def recall(block: Block, rows: int, memory: Measurements) -> KernelChoice | None:
    """What `choose` gives if it need not measure; else None."""
    limit, names = limit_of(rows), {kernel.name for kernel in candidates(block)}
    if names == {"plain"}:
        return KernelChoice(limit, "plain", {})
    seconds = memory.get(_key(block, limit))
    return _decide(limit, seconds) if seconds is not None and seconds.keys() == names else None


def _decide(limit: int, seconds: Mapping[str, float]) -> KernelChoice:
    best = min(seconds, key=lambda name: seconds[name])
    worth = seconds["plain"] > _GAIN * seconds[best]
    return KernelChoice(limit, best if worth else "plain", seconds)


def _key(block: Block, limit: int) -> str:
    weight = block.mlp.up.weight
    hidden, width = weight.shape
    activation = type(block.mlp.activation).__name__
    torch_version = torch.__version__.partition("+")[0]
    return (
        f"{processor()}; torch {torch_version}, {torch.get_num_threads()} threads; "
        f"{weight.dtype}, {width} x {hidden}, {activation}, rows {limit or 'more'}"
    )


def _measure(block: Block, found: Sequence[Kernel], rows: int) -> dict[str, float]:
    """Best time of each kernel, in turns, until the budget or the rounds are spent."""
    hidden, width = block.mlp.up.weight.shape
    per_row = width * (4 * width + 2 * hidden)
    rows = max(1, min(rows, int(_WORK / per_row)))
    runs = {kernel.name: _work_of(block, kernel, rows) for kernel in found}
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()  # packs, and warms the caches
    end = time.perf_counter() + _BUDGET
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return best


def _work_of(block: Block, kernel: Kernel, rows: int) -> Callable[[], Any]:
    weight = block.mlp.up.weight
    form = kernel.form(block)
    x = torch.zeros(rows, weight.shape[1], dtype=kernel.dtype or weight.dtype)  # (N, D)

    def run() -> Tensor:
        form.qkv(form.norm(x))
        return form.mlp(form.out(x, x))

    return run
