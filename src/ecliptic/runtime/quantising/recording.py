"""Records the inputs of every linear layer of a block, without hooks. D width, N rows, K inputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ecliptic.model import QuickGELU
from ecliptic.runtime.kernels.packed import PackedBlock
from ecliptic.runtime.kernels.plain import SLOPE, PlainBlock

SAMPLE = 1024  # rows of each layer's inputs that are kept


class RecordingBlock:
    """A block that passes the inputs of its linear layers to `take`, by their names in it."""

    def __init__(self, form: PackedBlock | PlainBlock, take: Callable[[str, Tensor], None]) -> None:
        self._form, block = form, form.block
        self.heads, self.qkv = form.heads, form.qkv
        self.query, self.key_value = form.query, form.key_value
        self._norm_2, self._take = block.ln_2, take
        self._slope = SLOPE if isinstance(block.mlp.activation, QuickGELU) else 1.0

    def norm(self, x: Tensor) -> Tensor:
        """As the form of the block, like all that follow."""
        normed = self._form.norm(x)
        self._take("attention.qkv", normed)
        return normed

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        """(N, D) heads and residual -> (N, D)."""
        self._take("attention.out", y)
        return self._form.out(y, x)

    def mlp(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        self._take("mlp.up", self._norm_2(x))
        hidden = self._form.widen(x)
        self._take("mlp.down", hidden / self._slope)
        return self._form.narrow(hidden, x)


@dataclass(frozen=True)
class LayerInputs:
    """What is known of the inputs of one linear layer."""

    rows: Tensor  # (N, K), some of them
    low: Tensor  # (K,), the smallest of all
    high: Tensor  # (K,), the largest of all

    def divide(self, smoothing: Tensor) -> "LayerInputs":
        """The same, each column divided by its number of (K,)."""
        return LayerInputs(self.rows / smoothing, self.low / smoothing, self.high / smoothing)


class InputSample:
    """Some rows of a layer's inputs, an even share of all that pass, and the range of all."""

    def __init__(self, calls: int) -> None:
        """`calls` is how many times rows will come."""
        self._each = -(-SAMPLE // calls)
        self._parts: list[Tensor] = []
        self._low: list[Tensor] = []
        self._high: list[Tensor] = []

    def add(self, x: Tensor) -> None:
        """Look at (N, K) inputs, and keep some rows."""
        places = torch.linspace(0, len(x) - 1, min(self._each, len(x))).long()
        self._parts.append(x[places].clone())
        self._low.append(x.amin(dim=0))
        self._high.append(x.amax(dim=0))

    def end(self) -> LayerInputs:
        """What was found in all calls."""
        low, high = torch.stack(self._low).amin(dim=0), torch.stack(self._high).amax(dim=0)
        return LayerInputs(torch.cat(self._parts), low, high)
