"""The network: what it takes, what it refuses, and that every weight matters."""

import pytest
import torch

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model import DrawingConfig, DrawingNet
from tests.drawing.conftest import TINY


def inputs(batch: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    known = torch.arange(batch) % 2 == 0
    return torch.randn(batch, 3, 16, 16), torch.rand(batch), torch.randn(batch, 32), known


def test_every_weight_has_a_gradient() -> None:
    net = DrawingNet(TINY)
    for parameter in net.parameters():  # some begin at zero, and hide others
        torch.nn.init.normal_(parameter, std=0.1)
    net(*inputs()).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_a_batch_is_its_samples() -> None:
    net = DrawingNet(TINY)
    whole = inputs(3)
    alone = torch.cat([net(*(one[i : i + 1] for one in whole)) for i in range(3)])
    torch.testing.assert_close(net(*whole), alone, rtol=1e-4, atol=1e-5)


def test_a_vector_that_is_not_used_changes_nothing() -> None:
    net = DrawingNet(TINY)
    x, t, vectors, _ = inputs()
    unknown = torch.zeros(2, dtype=torch.bool)
    assert torch.equal(net(x, t, vectors, unknown), net(x, t, -vectors, unknown))
    assert not torch.equal(net(x, t, vectors, ~unknown), net(x, t, -vectors, ~unknown))


def test_other_sizes_are_refused() -> None:
    x, t, vectors, known = inputs()
    with pytest.raises(ShapeError, match=r"wanted are \(B, 3, 16, 16\) and \(B, 32\)"):
        DrawingNet(TINY)(x[..., :8], t, vectors, known)
    with pytest.raises(ConfigError, match=r"leaves 2 pixels over.*use 64"):
        DrawingConfig(size=66)
    with pytest.raises(ConfigError, match="cannot be split into 3 heads"):
        DrawingConfig(heads=3)


def test_the_embedded_sizes_fit_into_12_megabytes() -> None:
    with torch.device("meta"):
        net = DrawingNet(DrawingConfig())
    assert sum(p.numel() for p in net.parameters()) * 2 < 12_000_000
