"""Minima of smooth convex functions: Newton's method for a few values, L-BFGS for many.

Source: Nocedal & Wright 2006, "Numerical optimization", algorithms 7.4 and 7.5. torch.optim has
L-BFGS too, but its first use imports a compiler for seconds.
"""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

Curvature = tuple[Tensor, Tensor, Tensor]  # value (), gradient (P,), second derivatives (P, P)
Slope = tuple[Tensor, Tensor]  # value (), gradient of the shape of the values
_ROUNDS, _HALVINGS = 100, 40  # steps of the search, and of one step
_CLOSE = 1e-9  # size of the last step, relative
_DESCENTS, _REMEMBERED = 500, 10  # of L-BFGS: steps of the search, and of its memory
_LEVEL = 1e-8  # largest value of a gradient at a minimum
_ENOUGH = 1e-4  # share of the drop that the slope promises (Armijo)


def minimise_convex(measure: Callable[[Tensor], Curvature], start: Tensor) -> Tensor:
    """(P,) values at the minimum of a convex function, from (P,) values near it.

    Newton's steps are halved while they do not help. Values on which the function does not depend
    stay as they are. Where there is no minimum, the search ends far away.

    Args:
        measure: the value, the gradient and the second derivatives at (P,) values.
        start: (P,) float64.
    """
    at = start
    value, slope, bend = measure(at)
    for _ in range(_ROUNDS):
        step = torch.linalg.lstsq(bend, slope[:, None], driver="gelsd").solution[:, 0]
        for _ in range(_HALVINGS):
            found = measure(at - step)
            if found[0] <= value:
                break
            step = step / 2
        else:
            break
        at, (value, slope, bend) = at - step, found
        if bool(step.abs().max() < _CLOSE * at.abs().max()):
            break
    return at


def minimise_smooth(measure: Callable[[Tensor], Slope], start: Tensor) -> Tensor:
    """The values at the minimum of a smooth convex function of many values, by L-BFGS.

    Args:
        measure: the value and the gradient.
        start: of any shape, float64.
    """
    at, memory = start, deque[tuple[Tensor, Tensor]](maxlen=_REMEMBERED)
    value, slope = measure(at)
    for _ in range(_DESCENTS):
        if bool(slope.abs().max() < _LEVEL):
            break
        step = _newton_like(slope, memory)
        drop = (slope * step).sum()
        for _ in range(_HALVINGS):
            found = measure(at - step)
            if found[0] <= value - _ENOUGH * drop:
                break
            step, drop = step / 2, drop / 2
        else:
            break  # rounding hides what is left
        if bool((-step * (bent := found[1] - slope)).sum() > 0):
            memory.append((-step, bent))
        at, (value, slope) = at - step, found
    return at


def _newton_like(slope: Tensor, memory: deque[tuple[Tensor, Tensor]]) -> Tensor:
    """The slope times an estimate of the inverse second derivatives, from the last steps."""
    step, shares = slope, list[Tensor]()
    for moved, bent in reversed(memory):
        share = (moved * step).sum() / (moved * bent).sum()
        step = step - share * bent
        shares.append(share)
    if memory:
        moved, bent = memory[-1]
        step = step * (moved * bent).sum() / bent.square().sum()
    for (moved, bent), share in zip(memory, reversed(shares), strict=True):
        step = step + moved * (share - (bent * step).sum() / (moved * bent).sum())
    return step
