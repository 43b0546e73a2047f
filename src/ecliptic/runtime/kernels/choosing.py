"""Chooses the quickest form of a tower's blocks: measured on this machine, then remembered.

Which kernel is quickest differs by processor, precision, sizes and number of rows, so every
candidate computes the linear layers of the first block, for the largest number of rows of a range
that fits in the time. D width, N rows: tokens of all items.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ecliptic.model import Block
from ecliptic.runtime.kernels.machine import is_busy, processor
from ecliptic.runtime.kernels.memory import Measurements
from ecliptic.runtime.kernels.packed import PackedBlock, is_packable
from ecliptic.runtime.kernels.plain import BlockForm, PlainBlock
from ecliptic.runtime.kernels.widened import widen

KernelMode: TypeAlias = Literal["auto", "plain", "compiled"]
ROWS = (16, 128)  # limits of the ranges of N that are measured apart, in float32
ALL = -1  # the one range of half precision, so that its numbers do not depend on N
_MORE = 512  # N that stands for all above the last limit
_MOST = {ALL: 128, 0: _MORE}  # N that is measured for a range without a limit of its own
_BUDGET = 0.25  # seconds of one choice
_ROUNDS = 30  # of one choice at most, for small models
_WORK = 1.5e9  # multiplications of one measurement at most
_GAIN = 1.05  # a form must be this much quicker than the plain one, or noise would choose
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
    Kernel("widened", widen, "stored in half precision, computed in float32", torch.float32),
)
KERNELS: Mapping[str, Kernel] = MappingProxyType({row.name: row for row in _ROWS_OF_TABLE})


@dataclass(frozen=True)
class KernelChoice:
    """The outcome of one choice."""

    rows: int  # N that it holds for: up to this limit, 0 for more than the last one, or `ALL`
    chosen: str  # name of a kernel
    seconds: Mapping[str, float]  # kernel -> the linear layers of one block
    measured: int = 0  # N of these seconds

    def describe(self) -> str:
        """For people: "packed up to 128 rows (of 128: plain 1.5 ms, packed 1.1 ms)"."""
        sizes = {ALL: "for all rows", 0: f"above {ROWS[-1]:,} rows"}
        size = sizes.get(self.rows, f"up to {self.rows:,} rows")
        times = ", ".join(f"{name} {_in_ms(s)}" for name, s in self.seconds.items())
        return f"{self.chosen} {size}" + (f" (of {self.measured}: {times})" if times else "")


def _in_ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


def candidates(block: Block) -> list[Kernel]:
    """The kernels that can compute `block`, the plain one first."""
    weight = block.mlp.up.weight
    found = [KERNELS["plain"]]
    if is_packable(block):
        found.append(KERNELS["packed"])
    if weight.device.type == "cpu" and weight.dtype in _HALVES:
        found.append(KERNELS["widened"])
    return found


def ranges_of(dtype: torch.dtype) -> tuple[int, ...]:
    """The ranges of weights in `dtype`, each by its `KernelChoice.rows`."""
    return (ALL,) if dtype in _HALVES else (*ROWS, 0)


def range_of(rows: int, dtype: torch.dtype) -> int:
    """The range that `rows` falls in."""
    ranges = ranges_of(dtype)
    return next((limit for limit in ranges if rows <= limit), ranges[-1])


def choose(block: Block, limit: int, memory: Measurements) -> KernelChoice:
    """The quickest kernel in a range; measured in about 0.3 s unless it is remembered.

    What is measured while other programs want more than all cores is not kept for later.
    """
    if (known := recall(block, limit, memory)) is not None:
        return known
    busy = is_busy()
    seconds = _measure(block, candidates(block), rows_measured(block, limit))
    memory.put(_key(block, limit), seconds, keep=not busy)
    return _decide(block, limit, seconds)


def recall(block: Block, limit: int, memory: Measurements) -> KernelChoice | None:
    """What `choose` gives if it need not measure; else None."""
    names = {kernel.name for kernel in candidates(block)}
    if names == {"plain"}:
        return KernelChoice(limit, "plain", {})
    seconds = memory.get(_key(block, limit))
    return _decide(block, limit, seconds) if seconds and seconds.keys() == names else None


def rows_measured(block: Block, limit: int) -> int:
    """N of the measurement for a range: its limit, or less for wide blocks."""
    hidden, width = block.mlp.up.weight.shape
    most = int(_WORK / (width * (4 * width + 2 * hidden)))
    return max(1, min(_MOST.get(limit, limit), most))


def _decide(block: Block, limit: int, seconds: Mapping[str, float]) -> KernelChoice:
    best = min(seconds, key=lambda name: seconds[name])
    worth = seconds["plain"] > _GAIN * seconds[best]
    chosen = best if worth else "plain"
    return KernelChoice(limit, chosen, seconds, rows_measured(block, limit))


def _key(block: Block, limit: int) -> str:
    weight = block.mlp.up.weight
    hidden, width = weight.shape
    activation = type(block.mlp.activation).__name__
    torch_version = torch.__version__.partition("+")[0]
    return (
        f"{processor()}; torch {torch_version}, {torch.get_num_threads()} threads; "
        f"{weight.dtype}, {width} x {hidden}, {activation}, range {limit}"
    )


@torch.inference_mode()
def _measure(block: Block, found: Sequence[Kernel], rows: int) -> dict[str, float]:
    """Best time of each kernel, in turns, until the budget or the rounds are spent."""
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
    x = torch.zeros(rows, weight.shape[1], dtype=kernel.dtype or weight.dtype, device="cpu")

    def run() -> Tensor:
        form.qkv(form.norm(x))
        return form.mlp(form.out(x, x))

    return run
