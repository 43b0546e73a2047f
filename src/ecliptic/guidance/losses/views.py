"""Views: a picture in several random perspectives, so that a loss cannot be won by fine noise.

A view is the same picture, cut out and seen from the side, or shifted, turned and scaled. The loss
is the mean over views, so what makes it small must be visible in all of them.
B pictures, V views of each, H high, W wide.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.checks import check_choice, check_count, check_range
from ecliptic.guidance.chance import generator_of
from ecliptic.guidance.losses.weighted import ImageLoss, restart, tell_noise

ViewKind = Literal["perspective", "jitter"]

# CLIPDraw's torchvision transforms: RandomPerspective(distortion_scale=0.5), then
# RandomResizedCrop(scale=(0.7, 0.9)), here of the picture's own shape.
DISTORTION, CROP = 0.5, (0.7, 0.9)
# lucid's standard transforms: jitter of 8 of 224 pixels, scales 0.9 to 1.1, turns of 10 degrees.
SHIFT, SCALE, TURN = 8 / 224, (0.9, 1.1), 10 * pi / 180


@dataclass(frozen=True)
class Draw:
    """The random numbers of one look."""

    maps: Tensor  # (V, 3, 3) from places of a view to places of the picture, both -1 to 1
    radius: int = 0  # of the blur, pixels
    seed: int = 0  # of the noise


@dataclass(frozen=True)
class Views:
    """How many views of a picture, and what they differ in.

    Blur and noise hide what is smaller than things of which a model should see the shape.
    """

    count: int = 8
    kind: ViewKind = "perspective"  # as CLIPDraw; "jitter" as lucid
    fill: float = 1.0  # the grey beyond the edge, 0 to 1; 1 is white
    blur: int = 0  # largest radius in pixels; that of each look is drawn from 0 to this
    noise: float = 0.0  # standard deviation of normal noise on the values

    def __post_init__(self) -> None:
        check_count("the number of views", self.count)
        check_choice("kind", self.kind, _MAPS)
        check_count("blur", self.blur, least=0)
        check_range("noise", self.noise)
        check_range("fill", self.fill, 0, 1)

    def draw(self, generator: torch.Generator) -> Draw:
        """Draw what the next look needs."""
        maps = _MAPS[self.kind](self.count, generator)
        radius = int(torch.randint(self.blur + 1, (), generator=generator))
        return Draw(maps, radius, int(torch.randint(2**31, (), generator=generator)))

    def look(self, images: Tensor, draw: Draw) -> Tensor:
        """(B * V, 3, H, W) the views of each picture one after the other, differentiable."""
        B, _, high, wide = images.shape
        grid = F.affine_grid(
            torch.eye(2, 3).to(images)[None], [1, 3, high, wide], align_corners=False
        )
        places = torch.cat([grid[0], torch.ones_like(grid[0, ..., :1])], dim=-1)  # (H, W, 3)
        mapped = torch.einsum("vij,hwj->vhwi", draw.maps.to(images), places)
        mapped = mapped[..., :2] / mapped[..., 2:]  # (V, H, W, 2)
        many = images.repeat_interleave(self.count, dim=0) - self.fill
        seen = F.grid_sample(many, mapped.repeat(B, 1, 1, 1), align_corners=False)
        seen = seen + self.fill  # beyond the edge grid_sample gives 0
        if draw.radius:
            side = 2 * draw.radius + 1
            seen = F.avg_pool2d(seen, side, 1, draw.radius, count_include_pad=False)
        if self.noise:
            random = torch.Generator().manual_seed(draw.seed)
            noise = torch.randn(self.count, 3, high, wide, generator=random).to(images)
            seen = (seen + self.noise * noise.repeat(B, 1, 1, 1)).clamp(0, 1)
        return seen


class OverViews:
    """A loss that is the mean of another one over views, drawn anew in each call."""

    def __init__(self, loss: ImageLoss, views: Views | None = None, seed: int = 0) -> None:
        self.loss, self.views, self.seed = loss, views or Views(), seed
        self.restart()

    def restart(self) -> None:
        """Begin again with the views of the first call."""
        self._generator = generator_of(self.seed)
        restart(self.loss)

    def at(self, noise: float) -> None:
        """Tell the loss how much noise is left, 1 to 0."""
        tell_noise(self.loss, noise)

    def __call__(self, images: Tensor) -> Tensor:
        """(B,) means over the views."""
        seen = self.views.look(images, self.views.draw(self._generator))
        return self.loss(seen).view(len(images), self.views.count).mean(1)


def _perspectives(count: int, generator: torch.Generator) -> Tensor:
    """Corners move inwards by at most a quarter of the side; then a part of the view is cut out."""
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    inwards = DISTORTION * torch.rand(count, 4, 2, generator=generator)
    seen = _homography(corners * (1 - inwards), corners)  # the picture lies inside the view
    area = CROP[0] + (CROP[1] - CROP[0]) * torch.rand(count, generator=generator)
    side = area.sqrt()
    room = (1 - side)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
    return seen @ _affine(side, torch.zeros(count), room)


def _jitters(count: int, generator: torch.Generator) -> Tensor:
    """Shifts, scales and turns."""
    scale = SCALE[0] + (SCALE[1] - SCALE[0]) * torch.rand(count, generator=generator)
    turn = TURN * (2 * torch.rand(count, generator=generator) - 1)
    shift = 2 * SHIFT * (2 * torch.rand(count, 2, generator=generator) - 1)
    return _affine(1 / scale, turn, shift)


def _affine(scale: Tensor, turn: Tensor, shift: Tensor) -> Tensor:
    """(V, 3, 3) matrices that scale, turn and then shift."""
    cos, sin, zero = scale * turn.cos(), scale * turn.sin(), torch.zeros_like(scale)
    rows = [cos, -sin, shift[:, 0], sin, cos, shift[:, 1], zero, zero, zero + 1]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def _homography(start: Tensor, end: Tensor) -> Tensor:
    """(V, 3, 3) maps that take four places (V, 4, 2) to four others (4, 2)."""
    end = end.expand_as(start)
    x, y = start.unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    u, v = end.unbind(-1)
    across = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1)
    down = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1)
    equations = torch.cat([across, down], dim=1).double()  # (V, 8, 8)
    found = torch.linalg.solve(equations, torch.cat([u, v], dim=1).double())
    return torch.cat([found, found.new_ones(len(found), 1)], dim=1).view(-1, 3, 3).to(start.dtype)


_MAPS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "perspective": _perspectives,
    "jitter": _jitters,
}
