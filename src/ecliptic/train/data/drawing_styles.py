"""Random variations of drawings, so that the model generalises to unseen drawing styles.

Every function takes a batch and a stream of random numbers for each row; no row depends on
another. B batch, S side. Colours are in 0..1; `rgba` is not premultiplied.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.train.data.row_random import RowRandom

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
SIDES = (8, 10, 12, 16, 20, 24)  # pixels, of drawings that are made coarse


def vary(rgba: Tensor, random: RowRandom) -> Tensor:
    """(B, 4, S, S) uint8 -> (B, 3, S, S) float32 in 0..1, restyled, moved, on a background."""
    x = restyle(rgba.float() / 255, random)
    x = lay_on_paper(place(x, random), random)
    return degrade(make_coarse(thicken(x, random), random), random)


def restyle(x: Tensor, random: RowRandom) -> Tensor:
    """Recolour, desaturate, posterise, outline or reduce to a silhouette; or leave as it is."""
    kind = random.uniform()
    x = x.clone()
    for low, high, style in _STYLES:
        rows = _rows((kind >= low) & (kind < high))
        numbers = random.split(rows)
        if len(rows):
            x[rows] = style(x[rows], numbers)
    return x


def recolour(x: Tensor, random: RowRandom) -> Tensor:
    """Mix the channels a little at random, then shift and scale them."""
    mix = torch.eye(3) + 0.25 * random.normal(3, 3)
    mix = mix / mix.sum(dim=-1, keepdim=True).clamp(min=0.5)
    shift = 0.08 * random.normal(3, 1, 1)
    # no matmul: its rounding depends on the size of the batch
    rgb = sum((mix[:, :, i, None, None] * x[:, i : i + 1] for i in range(3)), start=shift)
    return torch.cat([rgb.clamp(0, 1), x[:, 3:]], dim=1)


def desaturate(x: Tensor, random: RowRandom) -> Tensor:
    """Remove the colour, fully or in part, and change the contrast."""
    keep = random.uniform(1, 1, 1, high=0.5)
    gain = random.uniform(1, 1, 1, low=0.6, high=1.5)
    grey = _brightness(x)
    rgb = (grey + keep * (x[:, :3] - grey) - 0.5) * gain + 0.5
    return torch.cat([rgb.clamp(0, 1), x[:, 3:]], dim=1)


def outline(x: Tensor, random: RowRandom) -> Tensor:
    """Dark strokes where brightness or coverage changes; the rest is transparent."""
    planes = torch.cat([_brightness(x) * x[:, 3:] + 1 - x[:, 3:], x[:, 3:]], dim=1)  # (B, 2, S, S)
    planes = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    across = planes[:, :, 1:-1, 2:] - planes[:, :, 1:-1, :-2]
    down = planes[:, :, 2:, 1:-1] - planes[:, :, :-2, 1:-1]
    squares = across.square() + down.square()
    edges = (squares[:, :1] + squares[:, 1:]).sqrt()
    strokes = (edges * random.uniform(1, 1, 1, low=2, high=5)).clamp(0, 1)
    thick = random.uniform(1, 1, 1) < 0.5
    strokes = torch.where(thick, F.max_pool2d(strokes, 3, stride=1, padding=1), strokes)
    ink = random.uniform(3, 1, 1, high=0.4).expand_as(x[:, :3])
    return torch.cat([ink, strokes], dim=1)


def silhouette(x: Tensor, random: RowRandom) -> Tensor:
    """Two random colours: ink for dark places, paper for light ones."""
    dark = random.uniform(1, 1, 1, low=0.35, high=0.65)
    light = ((_brightness(x) - dark) * 8 + 0.5).clamp(0, 1)
    ink = random.uniform(3, 1, 1, high=0.5)
    paper = 1 - random.uniform(3, 1, 1, high=0.5)
    return torch.cat([ink + light * (paper - ink), x[:, 3:]], dim=1)


def flatten(x: Tensor, random: RowRandom) -> Tensor:
    """One colour for all that is drawn; a drawing that fills its square gets two."""
    full = _mean(x[:, 3:]) > 0.85
    ink = random.uniform(3, 1, 1, high=0.7).expand_as(x[:, :3])
    return torch.where(full, silhouette(x, random), torch.cat([ink, x[:, 3:]], dim=1))


def posterise(x: Tensor, random: RowRandom) -> Tensor:
    """Two to five levels of each channel, with borders at a random place; hard edges."""
    steps = 1 + (4 * random.uniform(1, 1, 1)).floor()
    offset = random.uniform(1, 1, 1, low=-0.3, high=0.3)
    rgb = ((x[:, :3] * steps + offset).round() / steps).clamp(0, 1)
    return torch.cat([rgb, (x[:, 3:] > 0.5).float()], dim=1)


def place(x: Tensor, random: RowRandom) -> Tensor:
    """Scale, stretch, rotate, shear and shift; returns (B, 4, S, S), alpha premultiplied."""
    scale = random.uniform(low=math.log(0.55), high=math.log(1.15)).exp()
    aspect = (0.08 * random.normal()).exp()
    angle = 0.12 * random.normal()  # radians, about 7 degrees
    shear = 0.06 * random.normal()
    shift = (1 - scale).clamp(min=0.06)[:, None] * random.uniform(2, low=-1, high=1)
    cos, sin = angle.cos(), angle.sin()
    # input -> output is [[a, b], [c, d]] and a shift; a place of the output asks for its origin
    a, b = scale * aspect * cos, scale * (shear - sin)
    c, d = scale * sin, scale / aspect * cos
    a, b, c, d = (v[:, None, None] / (a * d - b * c)[:, None, None] for v in (a, b, c, d))
    side = x.shape[-1]
    at = (2 * torch.arange(side) + 1) / side - 1  # centres of pixels in -1..1
    across = at[None, None, :] - shift[:, 0, None, None]
    down = at[None, :, None] - shift[:, 1, None, None]
    grid = torch.stack([d * across - b * down, a * down - c * across], dim=-1)  # (B, S, S, 2)
    x = torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], dim=1)
    return F.grid_sample(x, grid, mode="bilinear", align_corners=False)


def lay_on_paper(x: Tensor, random: RowRandom) -> Tensor:
    """Lay premultiplied drawings on white, black, plain, graded or noisy paper: (B, 3, S, S).

    If a drawing would be invisible on its paper, the paper is inverted.
    """
    paper = _draw_paper(x.shape[-1], random)
    ink = _mean(_brightness(x)) / _mean(x[:, 3:]).clamp(min=1e-3)
    hidden = _rows((ink - _mean(_brightness(paper))).abs() < 0.3)
    paper[hidden] = 1 - paper[hidden]
    return x[:, :3] + (1 - x[:, 3:]) * paper


def _draw_paper(side: int, random: RowRandom) -> Tensor:
    """(B, 3, S, S)."""
    kind = random.uniform(1, 1, 1)
    one, other = random.uniform(3, 1, 1), random.uniform(3, 1, 1)
    flat = torch.where(kind < 0.5, 1.0, torch.where(kind < 0.62, 0.0, one))
    paper = flat.expand(-1, -1, side, side).clone()
    graded = _rows((kind >= 0.8) & (kind < 0.9))
    ramp = torch.linspace(0, 1, side).expand(1, 1, side, side)
    turned = random.uniform(1, 1, 1)[graded] < 0.5
    ramp = torch.where(turned, ramp.transpose(-2, -1), ramp)
    paper[graded] = one[graded] + ramp * (other - one)[graded]
    noisy = _rows(kind >= 0.9)
    coarse = random.split(noisy).uniform(3, 6, 6)
    if len(noisy):
        paper[noisy] = F.interpolate(coarse, (side, side))
    return paper


def thicken(x: Tensor, random: RowRandom) -> Tensor:
    """Make dark strokes thicker in some rows, and light ones in others."""
    kind = random.uniform()
    for rows, sign in ((_rows(kind < 0.06), -1), (_rows(kind >= 0.95), 1)):
        if len(rows):
            x[rows] = sign * F.max_pool2d(sign * x[rows], 3, stride=1, padding=1)
    return x


def make_coarse(x: Tensor, random: RowRandom) -> Tensor:
    """Show some rows in few pixels: large squares, as in pixel art, or blurred ones."""
    coarse = random.uniform() < 0.15
    number = (len(SIDES) * random.uniform()).long()
    nearest, smooth = random.uniform() < 0.4, random.uniform() < 0.25
    whole = tuple(x.shape[2:])
    for place, side in enumerate(SIDES):
        for down in ("nearest-exact", "area"):
            rows = _rows(coarse & (number == place) & (nearest == (down == "nearest-exact")))
            if len(rows):
                small = F.interpolate(x[rows], (side, side), mode=down)
                large = F.interpolate(small, whole, mode="nearest-exact")
                soft = F.interpolate(small, whole, mode="bilinear", align_corners=False)
                x[rows] = torch.where(smooth[rows].view(-1, 1, 1, 1), soft, large)
    return x


def degrade(x: Tensor, random: RowRandom) -> Tensor:
    """Add blur, noise, a grey patch or none of them; values stay in 0..1."""
    side = x.shape[-1]
    blurred, noisy, covered = (_rows(random.uniform() < share) for share in (0.2, 0.3, 0.15))
    if len(blurred):
        x[blurred] = F.avg_pool2d(x[blurred], 3, stride=1, padding=1, count_include_pad=False)
    noise = random.split(noisy)
    if len(noisy):
        x[noisy] += noise.uniform(1, 1, 1, high=0.08) * noise.normal(*x.shape[1:])
    patch = side // 4
    corner = random.uniform(2, high=side - patch).long()
    for row in covered.tolist():
        top, left = corner[row].tolist()
        x[row, :, top : top + patch, left : left + patch] = 0.5
    return x.clamp(0, 1)


def _rows(chosen: Tensor) -> Tensor:
    """(R,) places of the rows that are True."""
    return chosen.flatten().nonzero()[:, 0]


def _brightness(x: Tensor) -> Tensor:
    red, green, blue = x[:, 0:1], x[:, 1:2], x[:, 2:3]
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]  # (B, 1, S, S)


def _mean(x: Tensor) -> Tensor:
    """(B, 1, 1, 1) means of (B, 1, S, S), by sums of whole numbers, which no order changes."""
    whole = (x * (1 << 16)).round().to(torch.int64).sum(dim=(2, 3), keepdim=True)
    return whole.float() / ((1 << 16) * x.shape[-1] ** 2)


_STYLES = (  # from, to, style; the rest of 0..1 keeps its style
    (0.40, 0.59, recolour),
    (0.59, 0.69, desaturate),
    (0.69, 0.79, outline),
    (0.79, 0.87, silhouette),
    (0.87, 0.91, flatten),
    (0.91, 1.00, posterise),
)
