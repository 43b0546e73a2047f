"""A block in PyTorch's public operators: any device and precision, always the current weights.

Also the interface of all forms, `BlockForm`. B batch, T tokens, D width, N rows of any shape.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.model import Block, QuickGELU

SLOPE = 1.702  # of QuickGELU: x sigmoid(1.702 x) = silu(1.702 x) / 1.702


def quick_gelu(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 x)`, in place."""
    return F.silu(x.mul_(SLOPE), inplace=True).div_(SLOPE)


class BlockForm(Protocol):
    """The parts of one block that a kernel computes; attention itself is the same in all forms."""

    heads: int

    def norm(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D), the input of the three maps below; kernels may pass other dtypes."""
        ...

    def qkv(self, normed: Tensor) -> Tensor:
        """(N, D) -> (N, 3 D), queries, keys and values."""
        ...

    def query(self, normed: Tensor) -> Tensor:
        """(N, D) -> (N, D), the queries alone."""
        ...

    def key_value(self, normed: Tensor) -> Tensor:
        """(N, D) -> (N, 2 D), keys and values alone."""
        ...

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        """(N, D) heads and (N, D) residual -> (N, D), their sum after the output map."""
        ...

    def mlp(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D), the residual included; `x` is not changed."""
        ...


class PlainBlock:
    """The block's own modules, with QuickGELU as one pass and residual sums in place."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.heads = block.attention.heads

    def norm(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)  # type: ignore[no-any-return]

    def qkv(self, normed: Tensor) -> Tensor:
        return self.block.attention.qkv(normed)  # type: ignore[no-any-return]

    def query(self, normed: Tensor) -> Tensor:
        qkv, D = self.block.attention.qkv, normed.shape[-1]
        return F.linear(normed, qkv.weight[:D], qkv.bias[:D])

    def key_value(self, normed: Tensor) -> Tensor:
        qkv, D = self.block.attention.qkv, normed.shape[-1]
        return F.linear(normed, qkv.weight[D:], qkv.bias[D:])

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        return self.block.attention.out(y).add_(x)  # type: ignore[no-any-return]

    def mlp(self, x: Tensor) -> Tensor:
        mlp, normed = self.block.mlp, self.block.ln_2(x)
        if not isinstance(mlp.activation, QuickGELU):
            return mlp(normed).add_(x)  # type: ignore[no-any-return]
        return self.narrow(self._silu(normed), x)

    def widen(self, x: Tensor) -> Tensor:
        """(N, D) -> the hidden layer of the MLP; of QuickGELU it is `SLOPE` times as large."""
        mlp, normed = self.block.mlp, self.block.ln_2(x)
        if isinstance(mlp.activation, QuickGELU):
            return self._silu(normed)
        return mlp.activation(mlp.up(normed))  # type: ignore[no-any-return]

    def narrow(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The hidden layer as `widen` gives it, and (N, D) residual -> (N, D), their sum."""
        mlp = self.block.mlp
        if not isinstance(mlp.activation, QuickGELU):
            return mlp.down(hidden).add_(x)  # type: ignore[no-any-return]
        flat = hidden.view(-1, hidden.shape[-1])
        y = torch.addmm(mlp.down.bias, flat, mlp.down.weight.T, alpha=1 / SLOPE)
        return y.view(x.shape).add_(x)

    def _silu(self, normed: Tensor) -> Tensor:
        up, flat = self.block.mlp.up, normed.view(-1, normed.shape[-1])
        hidden = torch.addmm(up.bias, flat, up.weight.T, beta=SLOPE, alpha=SLOPE)
        return F.silu(hidden, inplace=True).view(*normed.shape[:-1], -1)
