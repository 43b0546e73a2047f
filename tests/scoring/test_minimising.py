"""Newton's method and L-BFGS find the minima of convex functions."""

import torch
from torch import Tensor

from ecliptic.scoring.minimising import minimise_convex, minimise_smooth


def bowl() -> tuple[Tensor, Tensor]:
    """A badly scaled quadratic x A x / 2 - b x."""
    made = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=made, dtype=torch.float64)).Q
    bend = turn @ torch.diag(torch.logspace(-2, 2, 12, dtype=torch.float64)) @ turn.T
    return bend, torch.randn(12, generator=made, dtype=torch.float64)


def test_a_quadratic_has_its_known_minimum() -> None:
    bend, tilt = bowl()
    wanted = torch.linalg.solve(bend, tilt)
    start = torch.zeros(12, dtype=torch.float64)
    found = minimise_smooth(lambda x: (x @ bend @ x / 2 - tilt @ x, bend @ x - tilt), start)
    torch.testing.assert_close(found, wanted, atol=2e-5 * float(wanted.abs().max()), rtol=0)
    found = minimise_convex(lambda x: (x @ bend @ x / 2 - tilt @ x, bend @ x - tilt, bend), start)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def test_a_function_without_a_minimum_ends() -> None:
    start = torch.ones(1, dtype=torch.float64)
    assert float(minimise_smooth(lambda x: ((-x).exp().sum(), -(-x).exp()), start)) > 10
    far = minimise_convex(lambda x: ((-x).exp().sum(), -(-x).exp(), (-x).exp()[:, None]), start)
    assert float(far) > 10
