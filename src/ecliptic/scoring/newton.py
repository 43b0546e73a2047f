"""Newton's method for smooth convex functions of a few values, such as likelihoods."""

from collections.abc import Callable

import torch
from torch import Tensor

Curvature = tuple[Tensor, Tensor, Tensor]  # value (), gradient (P,), second derivatives (P, P)
_ROUNDS, _HALVINGS = 100, 40  # steps of the search, and of one step
_CLOSE = 1e-9  # size of the last step, relative


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
