"""A block whose linear layers are in oneDNN's order, with activation and residual in the matmuls.

The packed weights are copies. Where the weights lie in a mapped file, its pages are given back, so
that the model is in memory once; elsewhere the linear layers take their memory twice.
B batch, T tokens, D width, N rows.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from operator import is_
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ecliptic.model import Block, QuickGELU, WeightState
from ecliptic.runtime.kernels.operators import (
    PostOp,
    can_pack,
    pack,
    packed_linear,
    packed_linear_add,
)
from ecliptic.runtime.kernels.plain import SLOPE, PlainBlock, quick_gelu
from ecliptic.storage import page_out

Packed: TypeAlias = tuple[Tensor, Tensor]  # weight in oneDNN's order, bias
_ROWS = 400  # N that the packing is told; the order is the same for all but the smallest


def is_packable(block: Block) -> bool:
    """Whether `block` is an ordinary one on the CPU whose weights this PyTorch can pack.

    Tensors of inference mode are not packed: PyTorch counts no writes to them.
    """
    return is_ordinary(block) and all(
        linear.weight.device.type == "cpu"
        and can_pack(linear.weight.dtype)
        and not linear.weight.is_inference()
        for linear in linears_of(block)
    )


def is_ordinary(block: Block) -> bool:
    """Whether no part of the MLP and no linear layer of `block` was replaced or has a hook."""
    linears, activation = linears_of(block), block.mlp.activation
    known = type(activation) is QuickGELU or (
        type(activation) is nn.GELU and activation.approximate == "none"
    )
    plain = all(type(linear) is nn.Linear and linear.bias is not None for linear in linears)
    return known and plain and not has_hooks((*linears, block.mlp, activation))


def has_hooks(modules: Iterable[nn.Module]) -> bool:
    """Whether a module has hooks of its forward pass."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def linears_of(block: Block) -> tuple[nn.Linear, nn.Linear, nn.Linear, nn.Linear]:
    """The linear layers of `block`: queries, keys and values; output; up; down."""
    return block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down


def _packed(
    linear: nn.Linear,
    rows: slice = slice(None),
    *,
    scale: float = 1.0,
    scale_bias: bool = False,
) -> Packed:
    """Pack some rows of a layer, times `scale`; the pages of its file are given back."""
    with torch.no_grad():
        weight, bias = linear.weight[rows], linear.bias[rows]
        packed = pack(weight if scale == 1 else weight * scale, _ROWS)
        bias = bias * scale if scale_bias else bias.clone()
    page_out(linear.weight)
    return packed, bias


class PackedBlock:
    """One block; each layer is packed when it is first used.

    All copies are of the weights as they were when the form was made; `holds` tells if these are
    still the weights of the block.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self.heads, self._width = block.attention.heads, block.attention.out.out_features
        quick = isinstance(block.mlp.activation, QuickGELU)
        self._then: PostOp = "silu" if quick else "gelu"
        self._after = quick and block.mlp.up.weight.dtype != torch.float32
        # of QuickGELU, part of the weights around it; half precision would be rounded once more
        self._slope = SLOPE if quick and not self._after else 1.0
        self._linears = linears_of(block)
        self._parts = (*self._linears, block.mlp, block.mlp.activation)
        self._state = WeightState.of(self._weights())

    @cached_property
    def _qkv(self) -> Packed:
        return _packed(self.block.attention.qkv)

    @cached_property
    def _query(self) -> Packed:
        return _packed(self.block.attention.qkv, slice(None, self._width))

    @cached_property
    def _key_value(self) -> Packed:
        return _packed(self.block.attention.qkv, slice(self._width, None))

    @cached_property
    def _out(self) -> Packed:
        return _packed(self.block.attention.out)

    @cached_property
    def _up(self) -> Packed:
        return _packed(self.block.mlp.up, scale=self._slope, scale_bias=True)

    @cached_property
    def _down(self) -> Packed:
        return _packed(self.block.mlp.down, scale=1 / self._slope)

    def _weights(self) -> Iterator[Tensor]:
        for linear in self._linears:
            yield from linear._parameters.values()  # type: ignore[misc]  # quicker than by name

    def holds(self, block: Block) -> bool:
        """Whether this is the form of `block` as it is: nothing written, replaced, moved, hooked.

        It is asked for every block in every call, so it takes some microseconds.
        """
        mlp = block.mlp
        now = (*linears_of(block), mlp, mlp.activation)
        same = block is self.block and all(map(is_, now, self._parts))
        return same and not has_hooks(now) and self._state.holds(self._weights())

    def norm(self, x: Tensor) -> Tensor:
        return self.block.ln_1(x)  # type: ignore[no-any-return]

    def qkv(self, normed: Tensor) -> Tensor:
        return packed_linear(normed, *self._qkv)

    def query(self, normed: Tensor) -> Tensor:
        return packed_linear(normed, *self._query)

    def key_value(self, normed: Tensor) -> Tensor:
        return packed_linear(normed, *self._key_value)

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        return packed_linear_add(y, *self._out, x)

    def mlp(self, x: Tensor) -> Tensor:
        return self.narrow(self.widen(x), x)

    def widen(self, x: Tensor) -> Tensor:
        """(N, D) -> the hidden layer of the MLP; float32 QuickGELU is `SLOPE` times as large."""
        normed = self.block.ln_2(x)
        if self._after:
            return quick_gelu(packed_linear(normed, *self._up))
        return packed_linear(normed, *self._up, self._then)

    def narrow(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The hidden layer as `widen` gives it, and (N, D) residual -> (N, D), their sum."""
        return packed_linear_add(hidden, *self._down, x)


def float_form(block: Block) -> PackedBlock | PlainBlock:
    """The packed form of `block`; the plain one if it cannot be packed."""
    return PackedBlock(block) if is_packable(block) else PlainBlock(block)
