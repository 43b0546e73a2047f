"""The one home of PyTorch's private operators: linear layers whose weight oneDNN has reordered.

`torch.ops.mkldnn` has no public name; TorchInductor calls the same operators when it freezes a
model on the CPU (torch/_inductor/fx_passes/mkldnn_fusion.py). They may change with any release of
PyTorch, so `can_pack` asks for each by name, and the forms of `plain.py` need none of them.
N rows, K inputs, M outputs.
"""

from functools import cache
from typing import Literal

import torch
from torch import Tensor

PostOp = Literal["none", "gelu", "silu"]
_NAMES = {"none": ("none", ""), "gelu": ("gelu", "none"), "silu": ("swish", "")}  # of oneDNN
_HALVES = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this PyTorch and this CPU have reordered linear layers of `dtype`."""
    operators = torch.ops.mkldnn
    names = ("_linear_pointwise", "_reorder_linear_weight")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(operators, n) for n in names):  # type: ignore[no-untyped-call]
        return False
    if dtype in _HALVES:
        ask = getattr(operators, _HALVES[dtype], None)
        return ask is not None and bool(ask())
    return dtype == torch.float32


def pack(weight: Tensor, rows: int) -> Tensor:
    """(M, K) -> the same numbers in oneDNN's order, a copy; `rows` is a hint of N."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor, then: PostOp = "none") -> Tensor:
    """(..., K) -> (..., M): `then(x W^T + b)` in one pass."""
    name, algorithm = _NAMES[then]
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, name, [], algorithm)
    return y


def packed_linear_add(x: Tensor, packed: Tensor, bias: Tensor, other: Tensor) -> Tensor:
    """(..., K) and (..., M) -> (..., M): `x W^T + b + other` in one pass."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, packed, bias, "add")
    return y
