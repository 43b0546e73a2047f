"""Draws Bezier strokes as pixels, with gradients to their points, widths, colours and opacities.

A cubic curve is sampled at some places; the distance of a pixel to the lines between these is
exact. The nearest place is searched without gradients: the distance does not change to first order
when that place moves along the line, so the gradient is the same (the envelope theorem).
Coordinates are pixels, x to the right and y down; the centre of the first pixel is (0.5, 0.5).
N strokes, P pixels, M pairs of a stroke and a pixel near it, S lines of a stroke, H high, W wide.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ecliptic.errors import ConfigError, ShapeError

LINES = 12  # of a stroke; those of a new sketch are off by 1/1000 of the side at most
AT_ONCE = 4_000_000  # distances of pixels to lines in memory; more strokes are drawn in blocks
MOST_PIXELS = 1 << 18  # of a picture that is drawn at once without gradients
_TINY = 1e-12  # added to squared distances, whose root has no gradient at 0


@dataclass(frozen=True)
class Strokes:
    """Curves in the order in which they are drawn; the last one is on top."""

    points: Tensor  # (N, 4, 2) x and y of the control points, pixels
    widths: Tensor  # (N,) pixels
    colours: Tensor  # (N, 3) red, green, blue, 0 to 1
    opacities: Tensor  # (N,) 0 to 1

    def __post_init__(self) -> None:
        N = len(self.points)
        wanted = {"points": (N, 4, 2), "widths": (N,), "colours": (N, 3), "opacities": (N,)}
        for name, shape in wanted.items():
            if (got := tuple(getattr(self, name).shape)) != shape:
                raise ShapeError(
                    f"{name} of {N} strokes must be {shape}, got {got}; give each stroke four "
                    "points (x, y), a width, a colour and an opacity."
                )

    def __len__(self) -> int:
        return len(self.points)

    def part(self, first: int, last: int) -> "Strokes":
        """Those from `first` to before `last`."""
        return Strokes(*(getattr(self, field.name)[first:last] for field in fields(self)))

    def scaled(self, factor: float) -> "Strokes":
        """The same drawing on a paper that is `factor` times as large."""
        return Strokes(self.points * factor, self.widths * factor, self.colours, self.opacities)

    def detached(self) -> "Strokes":
        """A copy without gradients."""
        return Strokes(*(getattr(self, field.name).detach().clone() for field in fields(self)))


def rasterise(strokes: Strokes, paper: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) the strokes on a paper, values 0 to 1, differentiable.

    A pixel is covered as far as it lies within half a width of the curve, with an edge of one
    pixel: a straight stroke along the rows covers exactly its width. Memory does not grow with the
    number of strokes: blocks of them are drawn again for the gradients.

    Args:
        strokes: drawn in order.
        paper: (3,) colour below them; or (3, H, W), a picture to draw on.
        size: H and W, pixels.

    Raises:
        ConfigError: a size below 1.
    """
    high, wide = size
    if min(size) < 1:
        raise ConfigError(f"a picture needs at least one pixel, got {wide} x {high}.")
    image = (paper[:, None] if paper.ndim == 1 else paper.flatten(1)).expand(3, high * wide)
    band = max(1, MOST_PIXELS // wide)
    if not torch.is_grad_enabled() and high > band:
        return _draw_bands(strokes, image.reshape(3, high, wide), band)
    block = max(1, AT_ONCE // (high * wide * LINES))
    for first in range(0, len(strokes), block):
        some = strokes.part(first, first + block)
        parts = (some.points, some.widths, some.colours, some.opacities)
        if len(strokes) > block and torch.is_grad_enabled():
            image = checkpoint(_draw, image, size, *parts, use_reentrant=False)
        else:
            image = _draw(image, size, *parts)
    return image.reshape(1, 3, high, wide)


def _draw_bands(strokes: Strokes, paper: Tensor, band: int) -> Tensor:
    """The strokes on a large picture (3, H, W), some rows at a time, so that memory is bounded."""
    parts = []
    for top in range(0, paper.shape[1], band):
        rows = paper[:, top : top + band]
        moved = strokes.points - strokes.points.new_tensor([0.0, top])
        some = Strokes(moved, strokes.widths, strokes.colours, strokes.opacities)
        parts.append(rasterise(some, rows, (rows.shape[1], rows.shape[2])))
    return torch.cat(parts, dim=2)


def curve(points: Tensor, count: int) -> Tensor:
    """(N, count, 2) places along each cubic curve of (N, 4, 2) control points, ends included."""
    return _weights(count, points) @ points


def _weights(count: int, like: Tensor) -> Tensor:
    """(count, 4) weights of the control points at equal steps: the Bernstein polynomials."""
    t = torch.linspace(0, 1, count, dtype=like.dtype, device=like.device)[:, None]
    return torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], dim=1)


def _draw(
    image: Tensor,
    size: tuple[int, int],
    points: Tensor,
    widths: Tensor,
    colours: Tensor,
    opacities: Tensor,
) -> Tensor:
    """(3, P) the image with some more strokes on it."""
    stroke, y, x = _near(points.detach(), widths.detach(), size)  # each (M,)
    pixels = torch.stack([x, y], dim=-1) + 0.5  # (M, 2)
    own = points.index_select(0, stroke)  # (M, 4, 2)
    nearest = _nearest(points.detach(), stroke, pixels.to(points))  # (M, 4)
    places = (nearest[..., None] * own).sum(1)  # (M, 2) on the curve
    distance = ((places - pixels).square().sum(-1) + _TINY).sqrt()
    radius = widths.index_select(0, stroke) / 2
    # The second clamp matters where a stroke is less than one pixel wide.
    covered = (radius + 0.5 - distance).clamp(0, 1) - (0.5 - radius - distance).clamp(0, 1)
    alphas = covered.new_zeros(len(points), *size).index_put(
        (stroke, y, x), covered * opacities.index_select(0, stroke)
    )
    for alpha, colour in zip(alphas.flatten(1), colours, strict=True):
        image = torch.lerp(image, colour[:, None], alpha)
    return image


def _near(points: Tensor, widths: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """(M,) strokes, rows and columns of the pixels that a stroke may cover.

    A curve lies inside the box of its control points; all other pixels have no gradient either.
    """
    reach = widths[:, None] / 2 + 0.5
    low, high = points.amin(1) - reach, points.amax(1) + reach  # (N, 2)
    inside = [
        (places >= low[:, axis, None]) & (places <= high[:, axis, None])
        for axis, places in (
            (1, torch.arange(size[0], device=points.device) + 0.5),
            (0, torch.arange(size[1], device=points.device) + 0.5),
        )
    ]
    return (inside[0][:, :, None] & inside[1][:, None, :]).nonzero(as_tuple=True)


@torch.no_grad()
def _nearest(points: Tensor, stroke: Tensor, pixels: Tensor) -> Tensor:
    """(M, 4) weights of the control points that give the place nearest to each pixel."""
    weights = _weights(LINES + 1, points)  # (S + 1, 4)
    places = weights @ points  # (N, S + 1, 2)
    along = places.diff(dim=1)  # (N, S, 2)
    squares = along.square().sum(-1).clamp(min=_TINY)
    ax, ay = along[..., 0][stroke], along[..., 1][stroke]  # (M, S)
    dx = pixels[:, :1] - places[:, :-1, 0][stroke]
    dy = pixels[:, 1:] - places[:, :-1, 1][stroke]
    share = ((dx * ax + dy * ay) / squares[stroke]).clamp_(0, 1)  # of each line, from its start
    line = ((dx - share * ax).square_() + (dy - share * ay).square_()).argmin(1)  # (M,)
    share = share.gather(1, line[:, None])
    return weights[line] + share * (weights[line + 1] - weights[line])
