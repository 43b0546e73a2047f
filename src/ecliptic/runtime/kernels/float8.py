"""A block whose linear layers multiply 8-bit floats, all or some; the rest is in the model's dtype.

The numbers are e4m3: 4 bits of exponent and 3 of mantissa, up to 448 (Micikevicius et al. 2022,
arXiv:2209.05433). Each row of a weight has one step, and each row of the inputs has one, which is
found when it comes, so nothing is calibrated. B batch, N rows, K inputs, M outputs, D width.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model import Block, QuickGELU, WeightState
from ecliptic.runtime.kernels.operators import FLOAT8, can_multiply_float8, multiply_float8
from ecliptic.runtime.kernels.packed import is_ordinary
from ecliptic.runtime.kernels.plain import SLOPE, PlainBlock

LARGEST = 448.0  # of e4m3
_SMALLEST = 1e-12  # step of a row of zeros


def to_float8(x: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> codes (N, K), and the step (N, 1) float32 of each row: x is codes times steps."""
    steps = x.abs().amax(dim=-1, keepdim=True).float().div_(LARGEST).clamp_(min=_SMALLEST)
    return (x / steps).to(FLOAT8), steps


@dataclass(frozen=True, eq=False)
class Float8Linear:
    """A linear layer of 8-bit floats."""

    codes: Tensor  # (M, K) e4m3
    steps: Tensor  # (1, M) float32
    bias: Tensor  # (M,)
    fast: bool  # whether the device multiplies 8-bit floats

    @classmethod
    @torch.no_grad()
    def of(cls, linear: nn.Linear, *, plain: bool = False) -> "Float8Linear":
        """That of a float layer, a copy; `plain` multiplies in float32 on every device."""
        codes, steps = to_float8(linear.weight)
        fast = not plain and can_multiply_float8(linear.weight)
        return cls(codes, steps.T.contiguous(), linear.bias.clone(), fast)

    def rows(self, rows: slice) -> "Float8Linear":
        """The layer of some outputs alone."""
        return replace(
            self, codes=self.codes[rows], steps=self.steps[:, rows], bias=self.bias[rows]
        )

    def divided(self, factor: float) -> "Float8Linear":
        """The layer for inputs that are `factor` times as large."""
        return replace(self, steps=self.steps / factor)

    def multiply(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., M)."""
        codes, steps = to_float8(x.reshape(-1, x.shape[-1]))
        if self.fast:
            y = multiply_float8(codes, self.codes, steps, self.steps, self.bias)
        else:
            y = F.linear(codes.float(), self.codes.float()).mul_(steps * self.steps)
            y = y.add_(self.bias).to(x.dtype)
        return y.view(*x.shape[:-1], -1)


class Float8Block:
    """One block; layers that are not in `layers` are computed as in the plain form."""

    def __init__(self, block: Block, layers: Mapping[str, Float8Linear]) -> None:
        self.block = block
        self.heads, width = block.attention.heads, block.attention.out.out_features
        self._rest = PlainBlock(block)
        self._quick = isinstance(block.mlp.activation, QuickGELU)
        self._qkv, self._out = layers.get("attention.qkv"), layers.get("attention.out")
        self._query = self._qkv and self._qkv.rows(slice(None, width))
        self._key_value = self._qkv and self._qkv.rows(slice(width, None))
        self._up, down = layers.get("mlp.up"), layers.get("mlp.down")
        self._down = down and (down.divided(SLOPE) if self._quick else down)
        self._state = WeightState.of(block.parameters())

    def holds(self, block: Block) -> bool:
        """Whether this is the form of `block` as it is: no weight written, replaced or moved."""
        same = block is self.block and is_ordinary(block)
        return same and self._state.holds(block.parameters())

    def tensors(self) -> Iterator[Tensor]:
        """Every copy that was made of the weights."""
        for layer in (self._qkv, self._query, self._key_value, self._out, self._up, self._down):
            if layer is not None:
                yield from (layer.codes, layer.steps, layer.bias)

    def norm(self, x: Tensor) -> Tensor:
        return self._rest.norm(x)

    def qkv(self, normed: Tensor) -> Tensor:
        return self._rest.qkv(normed) if self._qkv is None else self._qkv.multiply(normed)

    def query(self, normed: Tensor) -> Tensor:
        return self._rest.query(normed) if self._query is None else self._query.multiply(normed)

    def key_value(self, normed: Tensor) -> Tensor:
        if self._key_value is None:
            return self._rest.key_value(normed)
        return self._key_value.multiply(normed)

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        return self._rest.out(y, x) if self._out is None else self._out.multiply(y).add_(x)

    def mlp(self, x: Tensor) -> Tensor:
        hidden = self._rest.widen(x) if self._up is None else self._widen(self._up, x)
        if self._down is None:
            return self._rest.narrow(hidden, x)
        return self._down.multiply(hidden).add_(x)

    def _widen(self, up: Float8Linear, x: Tensor) -> Tensor:
        """As `PlainBlock.widen`."""
        hidden = up.multiply(self.block.ln_2(x))
        if self._quick:
            return F.silu(hidden.mul_(SLOPE), inplace=True)
        return self.block.mlp.activation(hidden)  # type: ignore[no-any-return]
