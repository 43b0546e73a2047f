"""The blocks of one tower in the forms of their kernels. N rows: tokens of all items."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from ecliptic.model import Block
from ecliptic.runtime.kernels.choosing import (
    KERNELS,
    Kernel,
    KernelChoice,
    KernelMode,
    choose,
    range_of,
    ranges_of,
    recall,
)
from ecliptic.runtime.kernels.float8 import Float8Block
from ecliptic.runtime.kernels.memory import Measurements
from ecliptic.runtime.kernels.packed import PackedBlock, is_packable
from ecliptic.runtime.kernels.plain import BlockForm, PlainBlock
from ecliptic.runtime.kernels.quantised import QuantisedBlock

# the forms of all three are those of `reduce`
BYTES = Kernel("bytes", PlainBlock, "int8 layers")
PLAIN_BYTES = Kernel("plain", PlainBlock, "int8 layers, computed as float32")
FLOAT8_LAYERS = Kernel("plain", PlainBlock, "fp8 layers")
ReducedBlock: TypeAlias = QuantisedBlock | Float8Block
_PATIENCE = 512  # rows; about as much work as packing costs more than it saves


class TowerKernels:
    """Gives each block of a tower the form that is quickest for the number of rows.

    In float32 the plain form is used until some rows were computed: packing all weights takes as
    long as a few images, which a program that needs one vector would not get back.
    """

    def __init__(self, mode: KernelMode, memory: Measurements) -> None:
        self.mode = mode
        self._memory = memory
        self._computed = 0  # rows, until there are enough
        self._chosen: dict[tuple[int, torch.dtype, torch.device], KernelChoice] = {}
        self._packed: dict[int, PackedBlock] = {}  # by the place in the tower
        self._reduced: list[ReducedBlock] = []

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: packed weights are made again, int8 and fp8 forms by `reduce`."""
        return vars(self) | {"_packed": {}, "_reduced": []}

    def reduce(self, forms: Sequence[ReducedBlock]) -> None:
        """From now on run blocks in these int8 or fp8 forms of them, until a weight changes."""
        self._reduced = list(forms)

    def reduced(self, blocks: nn.ModuleList) -> Sequence[ReducedBlock]:
        """The forms of `reduce` if no weight of `blocks` changed since; else none."""
        same = len(blocks) == len(self._reduced) and all(
            form.holds(as_block(block)) for form, block in zip(self._reduced, blocks, strict=True)
        )
        return self._reduced if same else ()

    def choices(self, blocks: nn.ModuleList, *, measure: bool = False) -> list[KernelChoice]:
        """The choice for each range of rows that is known; `measure` finds out the others."""
        if self.mode != "auto" or not len(blocks):
            return []
        first = as_block(blocks[0])
        find = choose if measure else recall
        ranges = ranges_of(first.mlp.up.weight.dtype)
        if measure:
            self._computed = _PATIENCE  # what was chosen is used from now on
        found = [find(first, limit, self._memory) for limit in ranges]
        return [choice for choice in found if choice is not None]

    def lacks(self, blocks: nn.ModuleList, found: Sequence[KernelChoice]) -> bool:
        """Whether some ranges of rows are not among the choices `found`."""
        dtype = as_block(blocks[0]).mlp.up.weight.dtype if len(blocks) else torch.float32
        return self.mode == "auto" and len(found) < len(ranges_of(dtype))

    def kernel(self, blocks: nn.ModuleList, rows: int) -> Kernel:
        """The kernel for `rows` rows of a tower with these blocks; measured once for each range."""
        if forms := self.reduced(blocks):
            if isinstance(forms[0], Float8Block):
                return FLOAT8_LAYERS
            return PLAIN_BYTES if self.mode == "plain" else BYTES
        if self.mode != "auto" or not len(blocks):
            return KERNELS["plain"]
        first = as_block(blocks[0])
        weight = first.mlp.up.weight
        if weight.dtype == torch.float32 and self._computed < _PATIENCE:
            self._computed += rows
            if self._computed < _PATIENCE:
                return KERNELS["plain"]
        limit = range_of(rows, weight.dtype)
        place = limit, weight.dtype, weight.device
        if place not in self._chosen:
            self._chosen[place] = choose(first, limit, self._memory)
        return KERNELS[self._chosen[place].chosen]

    def forms(self, blocks: nn.ModuleList, kernel: Kernel) -> list[BlockForm]:
        """The form of every block of the tower; a block that cannot be packed is plain."""
        if kernel in (BYTES, PLAIN_BYTES, FLOAT8_LAYERS):
            return list(self._reduced)
        if kernel.form is not PackedBlock:
            return [kernel.form(as_block(block)) for block in blocks]
        return [self._pack(place, as_block(block)) for place, block in enumerate(blocks)]

    def _pack(self, place: int, block: Block) -> BlockForm:
        """The packed form of the block at `place`; the plain one if it cannot be packed."""
        known = self._packed.get(place)
        if known is not None and known.holds(block):
            return known
        self._packed.pop(place, None)
        if not is_packable(block):
            return PlainBlock(block)
        return self._packed.setdefault(place, PackedBlock(block))


def as_block(block: nn.Module) -> Block:
    """`block`, which is one."""
    assert isinstance(block, Block)  # narrows the type of a ModuleList's items
    return block
