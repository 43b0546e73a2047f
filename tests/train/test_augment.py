"""Variations of drawings are in range, repeatable and never blank."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ecliptic.train import augment as augmentation

from .drawings import draw


def drawings(count: int) -> Tensor:
    """(B, 4, 96, 96) uint8."""
    image = torch.frombuffer(bytearray(draw("red", "circle", "flat").tobytes()), dtype=torch.uint8)
    return image.view(96, 96, 4).permute(2, 0, 1).expand(count, 4, 96, 96)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_augmented_drawings_are_in_range_repeatable_and_visible() -> None:
    first = augmentation.augment(drawings(64), generator())
    again = augmentation.augment(drawings(64), generator())
    assert first.shape == (64, 3, 96, 96)
    assert torch.equal(first, again)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert bool((first.flatten(1).std(dim=1) > 0.02).all())  # the drawing never vanishes
    assert len({round(float(v), 4) for v in first.flatten(1).mean(dim=1)}) > 60


@pytest.mark.parametrize(
    "style",
    [
        augmentation.recolour,
        augmentation.desaturate,
        augmentation.outline,
        augmentation.silhouette,
    ],
)
def test_styles_keep_shape_and_range(style: Callable[[Tensor, torch.Generator], Tensor]) -> None:
    x = drawings(8).float() / 255
    y = style(x, generator())
    assert y.shape == x.shape
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1
    assert not torch.equal(x, y)


def test_outlines_follow_the_edge_of_the_drawing() -> None:
    alpha = augmentation.outline(drawings(1).float() / 255, generator())[0, 3]
    assert float(alpha[48, 48]) == 0  # inside
    assert float(alpha[2, 2]) == 0  # outside
    assert float(alpha[46:50, 10:18].max()) > 0.5  # the circle's left edge


def test_white_shows_through_transparency() -> None:
    laid = augmentation.lay_on_white(drawings(1))
    assert laid[0, :, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert laid[0, :, 48, 48].tolist() == [1.0, 0.0, 0.0]
