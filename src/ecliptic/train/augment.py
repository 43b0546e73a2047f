"""Random variations of drawings, so that the model generalises to unseen drawing styles.

Every function takes a batch and a generator and does a few tensor operations.
B batch, S side. Colours are in 0..1; `rgba` is not premultiplied.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601


def augment(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 4, S, S) uint8 -> (B, 3, S, S) float32 in 0..1, restyled, moved, on a background."""
    x = restyle(rgba.float() / 255, generator)
    return degrade(composite(place(x, generator), generator), generator)


def lay_on_white(rgba: Tensor) -> Tensor:
    """(B, 4, S, S) uint8 -> (B, 3, S, S) in 0..1 on a white background."""
    x = rgba.float() / 255
    return x[:, :3] * x[:, 3:] + (1 - x[:, 3:])


def restyle(x: Tensor, generator: torch.Generator) -> Tensor:
    """Recolour, desaturate, outline or reduce to a silhouette; half of the batch is unchanged."""
    kind = torch.rand(len(x), generator=generator)
    x = x.clone()
    for low, high, style in _STYLES:
        rows = ((kind >= low) & (kind < high)).nonzero()[:, 0]
        if len(rows):
            x[rows] = style(x[rows], generator)
    return x


def recolour(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mix the channels a little at random, then shift and scale them."""
    B = len(x)
    mix = torch.eye(3) + 0.25 * torch.randn(B, 3, 3, generator=generator)
    mix = mix / mix.sum(dim=-1, keepdim=True).clamp(min=0.5)
    shift = 0.08 * torch.randn(B, 3, 1, 1, generator=generator)
    rgb = torch.einsum("bij,bjhw->bihw", mix, x[:, :3]) + shift
    return torch.cat([rgb.clamp(0, 1), x[:, 3:]], dim=1)


def desaturate(x: Tensor, generator: torch.Generator) -> Tensor:
    """Remove the colour, fully or in part, and change the contrast."""
    keep = torch.rand(len(x), 1, 1, 1, generator=generator) * 0.5
    gain = _uniform(len(x), 0.6, 1.5, generator)
    grey = _brightness(x[:, :3])
    rgb = (grey + keep * (x[:, :3] - grey) - 0.5) * gain + 0.5
    return torch.cat([rgb.clamp(0, 1), x[:, 3:]], dim=1)


def outline(x: Tensor, generator: torch.Generator) -> Tensor:
    """Dark strokes where brightness or coverage changes; the rest is transparent."""
    grey = _brightness(x[:, :3])
    planes = torch.cat([grey * x[:, 3:] + 1 - x[:, 3:], x[:, 3:]], dim=1)  # (B, 2, S, S)
    planes = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    across = planes[:, :, 1:-1, 2:] - planes[:, :, 1:-1, :-2]
    down = planes[:, :, 2:, 1:-1] - planes[:, :, :-2, 1:-1]
    edges = (across.square() + down.square()).sum(dim=1, keepdim=True).sqrt()
    strokes = (edges * _uniform(len(x), 2.0, 5.0, generator)).clamp(0, 1)
    strokes = F.max_pool2d(strokes, 3, stride=1, padding=1) if _coin(generator) else strokes
    ink = (0.4 * torch.rand(len(x), 3, 1, 1, generator=generator)).expand_as(x[:, :3])
    return torch.cat([ink, strokes], dim=1)


def silhouette(x: Tensor, generator: torch.Generator) -> Tensor:
    """Two random colours: ink for dark places, paper for light ones."""
    grey = _brightness(x[:, :3])
    light = ((grey - _uniform(len(x), 0.35, 0.65, generator)) * 8 + 0.5).clamp(0, 1)
    ink = 0.5 * torch.rand(len(x), 3, 1, 1, generator=generator)
    paper = 1 - 0.5 * torch.rand(len(x), 3, 1, 1, generator=generator)
    return torch.cat([ink + light * (paper - ink), x[:, 3:]], dim=1)


def place(x: Tensor, generator: torch.Generator) -> Tensor:
    """Scale, stretch, rotate, shear and shift; returns (B, 4, S, S), alpha premultiplied."""
    B = len(x)
    scale = torch.exp(_uniform(B, math.log(0.55), math.log(1.15), generator))[:, 0, 0, 0]
    aspect = torch.exp(0.08 * torch.randn(B, generator=generator))
    angle = 0.12 * torch.randn(B, generator=generator)  # radians, about 7 degrees
    shear = 0.06 * torch.randn(B, generator=generator)
    slack = (1 - scale).clamp(min=0.06)
    shift = slack[:, None] * (2 * torch.rand(B, 2, generator=generator) - 1)
    cos, sin = angle.cos(), angle.sin()
    forward = torch.stack(
        [
            torch.stack([scale * aspect * cos, scale * (shear - sin), shift[:, 0]], dim=-1),
            torch.stack([scale * sin, scale / aspect * cos, shift[:, 1]], dim=-1),
            torch.tensor([0.0, 0.0, 1.0]).expand(B, 3),
        ],
        dim=1,
    )
    theta = torch.linalg.inv(forward)[:, :2]  # output place -> input place
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", align_corners=False)


def composite(x: Tensor, generator: torch.Generator) -> Tensor:
    """Lay premultiplied drawings on white, black, plain, graded or noisy paper: (B, 3, S, S).

    If a drawing would be invisible on its paper, the paper is inverted.
    """
    B, _, S, _ = x.shape
    kind = torch.rand(B, 1, 1, 1, generator=generator)
    one, other = torch.rand(2, B, 3, 1, 1, generator=generator)
    ramp = torch.linspace(0, 1, S).view(1, 1, 1, S).expand(B, 1, S, S).clone()
    turned = torch.rand(B, generator=generator) < 0.5
    ramp[turned] = ramp[turned].transpose(-2, -1)
    coarse = torch.rand(B, 3, 6, 6, generator=generator)
    paper = torch.where(kind < 0.9, one + ramp * (other - one), F.interpolate(coarse, (S, S)))
    paper = torch.where(kind < 0.8, one.expand_as(paper), paper)
    paper = torch.where(kind < 0.62, torch.zeros(()), paper)
    paper = torch.where(kind < 0.5, torch.ones(()), paper)
    area = x[:, 3:].mean(dim=(2, 3), keepdim=True).clamp(min=1e-3)
    ink = _brightness(x[:, :3]).mean(dim=(2, 3), keepdim=True) / area
    ground = _brightness(paper).mean(dim=(2, 3), keepdim=True)
    paper = torch.where((ink - ground).abs() < 0.3, 1 - paper, paper)
    return x[:, :3] + (1 - x[:, 3:]) * paper


def degrade(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add blur, noise, a grey patch or none of them; values stay in 0..1."""
    B, _, S, _ = x.shape
    blurred = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    blur = torch.rand(B, 1, 1, 1, generator=generator) < 0.2
    x = torch.where(blur, blurred, x)
    noisy = (torch.rand(B, generator=generator) < 0.3).nonzero()[:, 0]
    strength = 0.08 * torch.rand(len(noisy), 1, 1, 1, generator=generator)
    x[noisy] += strength * torch.randn(x[noisy].shape, generator=generator)
    for row in (torch.rand(B, generator=generator) < 0.15).nonzero()[:, 0].tolist():
        top, left = torch.randint(0, S - S // 4, (2,), generator=generator).tolist()
        x[row, :, top : top + S // 4, left : left + S // 4] = 0.5
    return x.clamp(0, 1)


def _brightness(rgb: Tensor) -> Tensor:
    return (rgb * LUMA).sum(dim=1, keepdim=True)  # (B, 1, S, S)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def _coin(generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < 0.5)


_STYLES = (  # from, to, style; the rest of 0..1 keeps its style
    (0.50, 0.72, recolour),
    (0.72, 0.84, desaturate),
    (0.84, 0.93, outline),
    (0.93, 1.00, silhouette),
)
