"""Finite differences of a function against its gradient, in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

STEP = 1e-6


def check_slopes(
    function: Callable[[Tensor], Tensor], start: Tensor, tolerance: float = 1e-5
) -> None:
    """Raise unless the gradient of the sum of `function` is the slope along random directions."""
    x = start.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    generator = torch.Generator().manual_seed(5)
    for _ in range(4):
        along = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ends = [function(x + sign * STEP * along).sum() for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        torch.testing.assert_close((gradient * along).sum(), slope, rtol=tolerance, atol=tolerance)
