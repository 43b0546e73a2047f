"""A block whose linear layers are int8, all or some; attention, norms and residual are float32.

The steps of the inputs are part of the norm before them, the activation and the residual part of
the products. Without the operators for bytes the same integers are multiplied as float32: equal
numbers up to rounding, but not quicker than a float32 model. D width, N rows.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model import Block, QuantisedLinear, QuickGELU, WeightState, to_bytes
from ecliptic.runtime.kernels.operators import PackedBytes, PostOp, can_pack_bytes
from ecliptic.runtime.kernels.packed import PackedBlock, float_form, is_ordinary
from ecliptic.runtime.kernels.plain import SLOPE, PlainBlock
from ecliptic.storage import page_out, release


class Bytes(Protocol):
    """A linear layer from bytes."""

    def multiply(self, x: Tensor, then: PostOp = "none") -> Tensor:
        """(..., K) uint8 -> (..., M) float32."""
        ...

    def multiply_to_bytes(self, x: Tensor, then: PostOp, scale: float, zero: int) -> Tensor:
        """(..., K) uint8 -> (..., M) uint8 with these steps."""
        ...

    def multiply_add(self, x: Tensor, other: Tensor) -> Tensor:
        """(..., K) uint8 and (..., M) float32 -> (..., M) float32."""
        ...


class PlainBytes:
    """The layer in PyTorch's public operators, with the integers as float32."""

    def __init__(
        self, weight: Tensor, scales: Tensor, bias: Tensor, scale: float, zero: int
    ) -> None:
        self._weight = weight.float() * (scales[:, None] * scale)
        self._bias, self._zero = bias, zero

    def multiply(self, x: Tensor, then: PostOp = "none") -> Tensor:
        y = F.linear(x.float().sub_(self._zero), self._weight, self._bias)
        return F.gelu(y) if then == "gelu" else F.silu(y) if then == "silu" else y

    def multiply_to_bytes(self, x: Tensor, then: PostOp, scale: float, zero: int) -> Tensor:
        return to_bytes(self.multiply(x, then).div_(scale).add_(zero + 0.5))

    def multiply_add(self, x: Tensor, other: Tensor) -> Tensor:
        return self.multiply(x).add_(other)


class QuantisedBlock:
    """One block; layers that are not in `layers` are float32. Its copies are made at first use."""

    def __init__(
        self,
        block: Block,
        layers: Mapping[str, QuantisedLinear],
        *,
        plain: bool = False,
        rest: PackedBlock | PlainBlock | None = None,
    ) -> None:
        """`rest` computes the float32 layers, if there is such a form of `block` already."""
        self.block = block
        self.heads, self._width = block.attention.heads, block.attention.out.out_features
        self._plain = plain
        self._rest = rest or (PlainBlock(block) if plain else float_form(block))
        self._layers = dict(layers)
        quick = isinstance(block.mlp.activation, QuickGELU)
        self._then: PostOp = "silu" if quick else "gelu"
        self._slope = SLOPE if quick else 1.0  # hidden layers are this many times as large
        self._state = WeightState.of(self._weights())

    def _weights(self) -> Iterator[Tensor]:
        yield from self.block.parameters()

    def holds(self, block: Block) -> bool:
        """Whether this is the form of `block` as it is: no weight written, replaced or moved."""
        same = block is self.block and is_ordinary(block)
        return same and self._state.holds(self._weights())

    @cached_property
    def _norm_1(self) -> tuple[Tensor, Tensor]:
        return _folded(self.block.ln_1, self._layers["attention.qkv"])

    @cached_property
    def _norm_2(self) -> tuple[Tensor, Tensor]:
        return _folded(self.block.ln_2, self._layers["mlp.up"])

    @cached_property
    def _qkv(self) -> Bytes:
        return self._layer("attention.qkv")

    @cached_property
    def _query(self) -> Bytes:
        return self._layer("attention.qkv", slice(None, self._width))

    @cached_property
    def _key_value(self) -> Bytes:
        return self._layer("attention.qkv", slice(self._width, None))

    @cached_property
    def _out(self) -> Bytes:
        return self._layer("attention.out")

    @cached_property
    def _up(self) -> Bytes:
        return self._layer("mlp.up", factor=self._slope)

    @cached_property
    def _down(self) -> Bytes:
        return self._layer("mlp.down")

    def _layer(self, name: str, rows: slice = slice(None), factor: float = 1.0) -> Bytes:
        layer = self._layers[name]
        scales, bias = layer.scales[rows] * factor, layer.bias[rows] * factor
        fast = not self._plain and can_pack_bytes(layer.weight)
        make: Callable[..., Bytes] = PackedBytes.of if fast else PlainBytes
        found = make(layer.weight[rows], scales, bias, layer.scale, layer.zero)
        release(layer.weight)
        page_out(self.block.get_submodule(name).weight)  # type: ignore[arg-type]
        return found

    def norm(self, x: Tensor) -> Tensor:
        if "attention.qkv" not in self._layers:
            return self._rest.norm(x)
        return _norm_bytes(self.block.ln_1, *self._norm_1, x)

    def qkv(self, normed: Tensor) -> Tensor:
        if "attention.qkv" not in self._layers:
            return self._rest.qkv(normed)
        return self._qkv.multiply(normed)

    def query(self, normed: Tensor) -> Tensor:
        if "attention.qkv" not in self._layers:
            return self._rest.query(normed)
        return self._query.multiply(normed)

    def key_value(self, normed: Tensor) -> Tensor:
        if "attention.qkv" not in self._layers:
            return self._rest.key_value(normed)
        return self._key_value.multiply(normed)

    def out(self, y: Tensor, x: Tensor) -> Tensor:
        if "attention.out" not in self._layers:
            return self._rest.out(y, x)
        return self._out.multiply_add(self._layers["attention.out"].bytes_of(y), x)

    def mlp(self, x: Tensor) -> Tensor:
        up, down = self._layers.get("mlp.up"), self._layers.get("mlp.down")
        if up is None:
            hidden = self._rest.widen(x)
            if down is not None:
                hidden = down.bytes_of(hidden.div_(self._slope))
        else:
            normed = _norm_bytes(self.block.ln_2, *self._norm_2, x)
            if down is None:
                hidden = self._up.multiply(normed, self._then)
            else:
                scale = down.scale * self._slope
                hidden = self._up.multiply_to_bytes(normed, self._then, scale, down.zero)
        return self._rest.narrow(hidden, x) if down is None else self._down.multiply_add(hidden, x)


def _folded(norm: nn.LayerNorm, layer: QuantisedLinear) -> tuple[Tensor, Tensor]:
    """Weight and bias of `norm` that give the inputs of `layer` in steps, plus 0.5."""
    steps = layer.smoothing * layer.scale
    weight, bias = norm.weight.detach() / steps, norm.bias.detach() / steps
    return weight, bias + (layer.zero + 0.5)


def _norm_bytes(norm: nn.LayerNorm, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return to_bytes(F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps))
