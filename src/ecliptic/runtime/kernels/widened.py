"""A block stored in half precision and computed in float32, for CPUs without half-precision units.

A weight is widened when it is used, a panel of rows at a time, so that the panel stays in the cache
of a core and the model keeps the memory of its stored precision. N rows, K inputs, M outputs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model import Block, QuickGELU
from ecliptic.runtime.kernels.packed import is_ordinary
from ecliptic.runtime.kernels.plain import BlockForm, PlainBlock, quick_gelu

_PANEL = 1 << 18  # values of a panel: 1 MB in float32


def widen(block: Block) -> BlockForm:
    """The form of `block`; one with replaced or hooked parts is computed as it is stored."""
    return WidenedBlock(block) if is_ordinary(block) else StoredBlock(block)


class StoredBlock:
    """The plain form between others that are float32."""

    def __init__(self, block: Block) -> None:
        self.heads = block.attention.heads
        self._plain, self._dtype = PlainBlock(block), block.ln_1.weight.dtype

    def norm(self, x: Tensor) -> Tensor:
        return self._plain.norm(x.to(self._dtype))

    def qkv(self, normed: Tensor) -> Tensor:
        return self._plain.qkv(normed).float()

    def query(self, normed: Tensor) -> Tensor:
        return self._plain.query(normed).float()

    def key_value(self, normed: Tensor) -> Tensor:
        return self._plain.key_value(normed).float()

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        return self._plain.out(y.to(self._dtype), x.to(self._dtype)).float()

    def mlp(self, x: Tensor) -> Tensor:
        return self._plain.mlp(x.to(self._dtype)).float()


class WidenedBlock:
    """The block's own modules with their weights as float32; activations are float32."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.heads = block.attention.heads

    def norm(self, x: Tensor) -> Tensor:
        return _norm(self.block.ln_1, x)

    def qkv(self, normed: Tensor) -> Tensor:
        return _linear(normed, self.block.attention.qkv)

    def query(self, normed: Tensor) -> Tensor:
        return _linear(normed, self.block.attention.qkv, slice(None, normed.shape[-1]))

    def key_value(self, normed: Tensor) -> Tensor:
        return _linear(normed, self.block.attention.qkv, slice(normed.shape[-1], None))

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        return _linear(y, self.block.attention.out).add_(x)

    def mlp(self, x: Tensor) -> Tensor:
        mlp = self.block.mlp
        hidden = _linear(_norm(self.block.ln_2, x), mlp.up)
        quick = isinstance(mlp.activation, QuickGELU)
        hidden = quick_gelu(hidden) if quick else F.gelu(hidden)
        return _linear(hidden, mlp.down).add_(x)


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def _linear(x: Tensor, linear: nn.Linear, rows: slice = slice(None)) -> Tensor:
    weight, bias = linear.weight[rows], linear.bias[rows].float()
    flat = x.reshape(-1, x.shape[-1])  # (N, K)
    y = flat.new_empty(len(flat), len(weight))  # (N, M)
    step = max(1, _PANEL // weight.shape[1])
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        y[:, part] = torch.addmm(bias[part], flat, weight[part].float().T)
    return y.view(*x.shape[:-1], -1)
