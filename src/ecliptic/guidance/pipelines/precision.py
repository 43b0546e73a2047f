"""Gradients through half precision: scaled up on the way back, so that they do not vanish.

The gradient of a loss for one value of an image is about 1e-6 and smaller, and float16 has nothing
below 6e-8. The backward pass of a function is therefore done with a gradient whose largest value
is near `_LARGEST`, times a power of two, which changes no digit of it.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_LARGEST = 0.25  # float16 ends at 65504 and 6e-8: room to grow and to shrink


class _Factor:
    """The power of two of one backward pass."""

    value = 1.0


def keep_gradient(function: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype) -> Tensor:
    """`function(x)`, which is computed in `dtype`, with a gradient that float16 can hold.

    Args:
        function: takes and gives float32.
        x: its argument.
        dtype: the precision inside; only float16 needs the factor.
    """
    if dtype != torch.float16:
        return function(x)
    factor = _Factor()
    entered: Tensor = _Enter.apply(x, factor)  # type: ignore[no-untyped-call]
    left: Tensor = _Leave.apply(function(entered), factor)  # type: ignore[no-untyped-call]
    return left


class _Passing(torch.autograd.Function):
    """Changes nothing on the way forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: _Factor) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)


class _Leave(_Passing):
    """Backward begins here: multiplies the gradient."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        largest = float(grads[0].abs().max())
        if 0 < largest < math.inf:
            ctx.factor.value = 2.0 ** math.floor(math.log2(_LARGEST / largest))
        return grads[0] * ctx.factor.value, None


class _Enter(_Passing):
    """Backward ends here: divides the gradient by the same."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] / ctx.factor.value, None
