"""The one home of PyTorch's private operators: linear layers whose weight oneDNN has reordered.

`torch.ops.mkldnn` and `torch.ops.onednn` have no public names; TorchInductor calls the same
operators when it freezes a model on the CPU (torch/_inductor/fx_passes/mkldnn_fusion.py and
quantization.py). They may change with any release of PyTorch, so `can_pack` and
`can_multiply_bytes` ask for each by name, and the plain forms need none of them.
N rows, K inputs, M outputs.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from ecliptic.model import LARGEST_BYTE, LARGEST_CODE, LARGEST_PAIR

FLOAT8 = torch.float8_e4m3fn
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


def packed_linear(
    x: Tensor, packed: Tensor, bias: Tensor | None = None, then: PostOp = "none"
) -> Tensor:
    """(..., K) -> (..., M): `then(x W^T + b)` in one pass."""
    name, algorithm = _NAMES[then]
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, name, [], algorithm)
    return y


def packed_linear_add(x: Tensor, packed: Tensor, bias: Tensor, other: Tensor) -> Tensor:
    """(..., K) and (..., M) -> (..., M): `x W^T + b + other` in one pass."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, packed, bias, "add")
    return y


@dataclass(frozen=True)
class PackedBytes:
    """A linear layer of bytes and int8 in oneDNN's order; see `ecliptic.model.QuantisedLinear`."""

    weight: Tensor  # in oneDNN's order
    scales: Tensor  # (M,) float32
    zeros: Tensor  # (M,) int32, all 0
    bias: Tensor  # (M,) float32
    scale: float  # of the inputs
    zero: int

    @classmethod
    def of(
        cls, weight: Tensor, scales: Tensor, bias: Tensor, scale: float, zero: int
    ) -> "PackedBytes":
        """Pack (M, K) int8 weights: a copy."""
        packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), None)
        return cls(packed, scales, torch.zeros(len(scales), dtype=torch.int32), bias, scale, zero)

    def _arguments(self, x: Tensor) -> tuple[Any, ...]:
        return x, self.scale, self.zero, self.weight, self.scales, self.zeros

    def multiply(self, x: Tensor, then: PostOp = "none") -> Tensor:
        """(..., K) uint8 -> (..., M) float32: `then(x W^T + b)`."""
        out = self.bias, 1.0, 0, torch.float32
        return _bytes_operator()(*self._arguments(x), *out, *_post_op(then))  # type: ignore[no-any-return]

    def multiply_to_bytes(self, x: Tensor, then: PostOp, scale: float, zero: int) -> Tensor:
        """(..., K) uint8 -> (..., M) uint8: `then(x W^T + b) / scale + zero`, rounded."""
        out = self.bias, scale, zero, torch.uint8
        return _bytes_operator()(*self._arguments(x), *out, *_post_op(then))  # type: ignore[no-any-return]

    def multiply_add(self, x: Tensor, other: Tensor) -> Tensor:
        """(..., K) uint8 and (..., M) float32 -> (..., M): `x W^T + b + other`."""
        out = other, self.bias, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0
        return _bytes_operator().binary(*self._arguments(x), *out, *_post_op("none"))  # type: ignore[no-any-return]


@cache
def can_multiply_bytes() -> bool:
    """Whether this PyTorch and this CPU multiply bytes with int8, and give the exact sums."""
    operators, names = torch.ops.onednn, ("qlinear_prepack", "qlinear_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(operators, n) for n in names):  # type: ignore[no-untyped-call]
        return False
    try:
        return all(_is_exact(rows, inputs) for rows, inputs in ((1, 64), (40, 300)))
    except (RuntimeError, TypeError):  # another signature, or no kernel for this CPU
        return False


def can_pack_bytes(weight: Tensor) -> bool:
    """Whether `PackedBytes` is exact for (M, K) int8 weights of this size.

    With more than 256 columns and no whole number of fours, oneDNN pairs other columns than
    `QuantisedLinear` does.
    """
    return weight.shape[1] % 4 == 0 and can_multiply_bytes()


def _is_exact(rows: int, inputs: int) -> bool:
    """Compare the largest sums that `QuantisedLinear` allows, and others, with exact ones."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, LARGEST_BYTE + 1, (rows, inputs), dtype=torch.uint8, generator=random)
    weight = torch.randint(-127, 128, (32, inputs), dtype=torch.int16, generator=random)
    first = weight[:, ::2]
    weight[:, 1::2].clamp_(-LARGEST_PAIR - first, LARGEST_PAIR - first)
    weight = weight.clamp_(-LARGEST_CODE, LARGEST_CODE).char()
    x[0], weight[0, ::2], weight[0, 1::2] = LARGEST_BYTE, LARGEST_CODE, LARGEST_PAIR - LARGEST_CODE
    weight[16:] = -weight[:16]
    other, ones, zeros = torch.ones(rows, 32), torch.ones(32), torch.zeros(32)
    packed = PackedBytes.of(weight, ones, zeros, 1.0, 3)
    wanted = (x.long() - 3) @ weight.long().T  # (N, 32)
    return torch.equal(packed.multiply(x).long(), wanted) and torch.equal(
        packed.multiply_add(x, other).long(), wanted + 1
    )


def can_multiply_float8(weight: Tensor) -> bool:
    """Whether the device of (M, K) bfloat16 weights multiplies 8-bit floats of this size.

    NVIDIA GPUs do since compute capability 8.9 (Ada, Hopper), in sizes that are multiples of 16.
    """
    sizes = all(size % 16 == 0 for size in weight.shape)
    return sizes and weight.dtype == torch.bfloat16 and has_float8(weight.device)


@cache
def has_float8(device: torch.device) -> bool:
    """Whether `device` multiplies 8-bit floats with a step for each row, as `multiply_float8` does.

    Not every build and GPU of that capability has these products, so a small one is tried.
    """
    if device.type != "cuda" or torch.version.hip or not hasattr(torch, "_scaled_mm"):
        return False
    if torch.cuda.get_device_capability(device) < (8, 9):
        return False
    try:
        return multiplies_float8(device)
    except (RuntimeError, TypeError, NotImplementedError):  # no kernel, or another signature
        return False


@torch.inference_mode()
def multiplies_float8(device: torch.device) -> bool:
    """Whether `multiply_float8` is right on `device`; raises what PyTorch raises without it."""
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 64, generator=random).to(device) for n in (48, 32))
    steps = torch.rand(48, 1, generator=random).to(device) + 0.1
    rows = torch.rand(1, 32, generator=random).to(device) + 0.1
    bias = torch.randn(32, generator=random).to(device)
    codes, weights = x.to(FLOAT8), weight.to(FLOAT8)
    found = multiply_float8(codes, weights, steps, rows, bias).float()
    wanted = (codes.float() @ weights.float().T) * (steps * rows) + bias  # (48, 32)
    return bool(((found - wanted).norm() < 0.02 * wanted.norm()).item())


def multiply_float8(
    x: Tensor, weight: Tensor, x_steps: Tensor, steps: Tensor, bias: Tensor
) -> Tensor:
    """(N, K) and (M, K) e4m3, steps (N, 1) and (1, M) float32, bias (M,) -> (N, M) bfloat16.

    Sums are made in the accumulators of the tensor cores, which are much quicker and less exact.
    """
    bias, half = bias.to(torch.bfloat16), torch.bfloat16
    return torch._scaled_mm(
        x, weight.T, x_steps, steps, bias=bias, out_dtype=half, use_fast_accum=True
    )


def _bytes_operator() -> Any:
    return torch.ops.onednn.qlinear_pointwise


def _post_op(then: PostOp) -> tuple[str, list[Any], str]:
    name, algorithm = _NAMES[then]
    return name, [], algorithm
