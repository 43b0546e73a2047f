"""Distances and losses of pixels: values, gradients by finite differences, and no NaN anywhere."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import (
    OverViews,
    PixelDifference,
    Views,
    WeightedLoss,
    cosine_distance,
    out_of_range,
    saturation,
    spherical_distance,
    total_variation,
)

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "total variation": total_variation,
    "range": out_of_range,
    "saturation": saturation,
    "difference": PixelDifference(torch.full((3, 5, 4), 0.3, dtype=torch.float64)),
    "sum": WeightedLoss([(total_variation, 2.0), (out_of_range, -0.5)]),
}


def images(batch: int = 2) -> Tensor:
    """Some values are outside 0..1, none near the ends, where the range loss has a corner."""
    values = torch.rand(batch, 3, 5, 4, dtype=torch.float64) * 1.6 - 0.3
    near = ((values - 0.5).abs() - 0.5).abs() < 1e-3
    return values + 0.01 * near


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    x = images().requires_grad_()
    assert torch.autograd.gradcheck(LOSSES[name], x, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_each_image_has_its_own_loss(name: str) -> None:
    x = images(3)
    alone = torch.cat([LOSSES[name](one[None]) for one in x])
    torch.testing.assert_close(LOSSES[name](x), alone)


@pytest.mark.parametrize("distance", [spherical_distance, cosine_distance])
def test_distances_have_right_gradients(distance: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = torch.randn(2, 4, 8, dtype=torch.float64)
    assert torch.autograd.gradcheck(distance, (a.requires_grad_(), b), eps=1e-6, atol=1e-6)


def test_the_spherical_distance_is_that_of_the_notebooks() -> None:
    a, b = torch.randn(2, 100, 16, dtype=torch.float64)
    theirs = (F.normalize(a, dim=1) - F.normalize(b, dim=1)).norm(dim=1).div(2).arcsin()
    torch.testing.assert_close(spherical_distance(a, b), 2 * theirs.square(), atol=1e-9, rtol=1e-6)


def test_opposite_and_equal_vectors_have_finite_distances_and_gradients() -> None:
    a = F.normalize(torch.randn(1000, 32), dim=1)
    for b, wanted in ((-a, math.pi**2 / 2), (a, 0.0)):
        x = a.clone().requires_grad_()
        distance = spherical_distance(x, b)
        (slope,) = torch.autograd.grad(distance.sum(), x)
        torch.testing.assert_close(distance, torch.full((1000,), wanted), atol=1e-4, rtol=1e-4)
        assert slope.isfinite().all()
    with torch.no_grad():  # the published form
        length = (a + a * (1 + 1e-7)).norm(dim=1) / 2
        assert length.arcsin().isnan().any()


def test_pixel_losses_are_zero_for_what_is_right() -> None:
    flat = torch.full((2, 3, 6, 6), 0.4)
    for loss in (total_variation, out_of_range, saturation, PixelDifference(flat)):
        assert loss(flat).tolist() == [0.0, 0.0]
    assert float(out_of_range(flat + 1.0)[0]) == pytest.approx(0.4**2)
    assert float(saturation(flat + 1.0)[0]) == pytest.approx(0.8)


def test_a_start_image_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="resize it to 6 x 7"):
        PixelDifference(torch.zeros(3, 5, 5))(torch.zeros(1, 3, 7, 6))


def test_weights_must_be_numbers_and_parts_must_be_there() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        WeightedLoss([])
    with pytest.raises(ConfigError, match="weight of a loss must be finite"):
        WeightedLoss([(total_variation, math.inf)])


def test_parts_that_give_one_number_for_all_are_refused() -> None:
    with pytest.raises(ShapeError, match="one number for each of the 2 images, got the shape"):
        WeightedLoss([(lambda x: x.square().sum(), 1.0)])(images())
    with pytest.raises(ShapeError, match="3 start images for 2 images"):
        PixelDifference(torch.zeros(3, 3, 5, 4))(images())


def test_a_loss_over_views_begins_again_with_its_own() -> None:
    told: list[object] = []

    class Inner:
        def __call__(self, images: Tensor) -> Tensor:
            return images.mean(dim=(1, 2, 3))

        def restart(self) -> None:
            told.append("restart")

        def at(self, noise: float) -> None:
            told.append(noise)

    loss = OverViews(Inner(), Views(2))
    x = images().float().clamp(0, 1)
    first = loss(x)
    loss.restart()
    assert torch.equal(loss(x), first)
    loss.at(0.3)
    assert told == ["restart", "restart", 0.3]


def test_a_sum_remembers_its_parts() -> None:
    loss = WeightedLoss([(total_variation, 2.0), (out_of_range, 3.0)])
    x = images()
    total = loss(x)
    parts = loss.values["0 total_variation"], loss.values["1 out_of_range"]
    torch.testing.assert_close(total, 2 * parts[0] + 3 * parts[1])
