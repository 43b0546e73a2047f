"""A canvas of strokes: cubic curves with a width, a colour and an opacity on a paper.

Source of the start and of the rates: Frans, Soros, Witkowski 2021, CLIPDraw, arXiv:2106.14843,
section 3: short random curves; Adam with 1.0 for points at 224 pixels, 0.1 for widths, 0.01 for
colours. Sizes here are shares of the shorter side, so that rates do not depend on the resolution.
N strokes, H high, W wide.
"""

import torch
from torch import Tensor

from ecliptic.checks import check_count, check_range
from ecliptic.guidance.canvases.canvas import Adjustable
from ecliptic.guidance.canvases.fourier import check_picture
from ecliptic.guidance.canvases.rasteriser import Strokes, rasterise
from ecliptic.guidance.canvases.svg import write_svg
from ecliptic.guidance.chance import generator_of

RATES = (0.006, 0.0015, 0.02, 0.01)  # of points and widths (shares), colours, opacities; a step
WIDTHS = (0.006, 0.4)  # least and largest width, share of the shorter side
BEYOND = 0.2  # share of the side by which points may leave the paper
WHITE = (1.0, 1.0, 1.0)
FAINT, INWARDS = 0.2, 0.7  # opacity at the start; share of the side on which strokes begin
LAYERS = (0.3, 0.3, 0.4)  # shares of the strokes of a painted picture, coarse to fine
COARSE, FINE = 0.13, 0.03  # their widths, shares of the shorter side


class StrokesCanvas:
    """A drawing; points, widths, colours and opacities of its strokes change."""

    def __init__(
        self,
        strokes: Strokes,
        size: tuple[int, int],
        paper: tuple[float, float, float] = WHITE,
        rates: tuple[float, float, float, float] = RATES,
    ) -> None:
        """Take strokes in pixels of `size`.

        Args:
            strokes: at least one.
            size: H and W, pixels.
            paper: its colour, 0 to 1.
            rates: of points, widths, colours and opacities; those of points and widths are shares
                of the shorter side.

        Raises:
            ConfigError: no strokes, or a rate that is not above 0.
        """
        check_count("the number of strokes", len(strokes))
        self.size = high, wide = size
        self._side = min(high, wide)
        for share in paper:
            check_range("a colour of the paper", share, 0, 1)
        for rate in rates:
            check_range("a rate of strokes", rate, above=True)
        self.rates = rates
        self.paper = torch.tensor(paper, dtype=strokes.points.dtype)
        kept = strokes.scaled(1 / self._side).detached()
        self._leaves = [kept.points, kept.widths, kept.colours, kept.opacities]
        for leaf in self._leaves:
            leaf.requires_grad_()

    @classmethod
    def blank(
        cls,
        count: int,
        size: tuple[int, int],
        paper: tuple[float, float, float] = WHITE,
        seed: int = 0,
    ) -> "StrokesCanvas":
        """Random curves, as in CLIPDraw: starts anywhere, three short steps, random colours.

        Other than there they are wide and faint and lie around the middle: strokes that are no part
        of the thing then vanish, while thin opaque ones stay as clutter.

        Raises:
            ConfigError: fewer than one stroke.
        """
        check_count("the number of strokes", count)
        generator = generator_of(seed)
        high, wide = size
        side = min(size)
        start = 0.1 + 0.8 * torch.rand(count, 1, 2, generator=generator)
        steps = 0.3 * (torch.rand(count, 3, 2, generator=generator) - 0.5)
        points = 0.5 + INWARDS * (torch.cat([start, start + steps.cumsum(1)], dim=1) - 0.5)
        strokes = Strokes(
            points * torch.tensor([wide / side, high / side]),
            0.04 + 0.1 * torch.rand(count, generator=generator),
            torch.rand(count, 3, generator=generator),
            torch.full((count,), FAINT),
        )
        return cls(strokes.scaled(side), size, paper)

    @classmethod
    def over(cls, picture: Tensor, count: int, seed: int = 0) -> "StrokesCanvas":
        """Paint a picture roughly: wide strokes everywhere, finer ones where it still differs.

        Each stroke has the colour of its place. The paper has the mean colour of the picture's
        edge. Fit the canvas to the picture before anything else, with
        `optimise(canvas, lambda images: (images - picture).square().mean((1, 2, 3)), 60)`.

        Args:
            picture: (1, 3, H, W) values 0 to 1.
            count: number of strokes.
            seed: of their places.

        Raises:
            ShapeError, ConfigError: no such picture, or fewer than one stroke.

        Source: of the order, Hertzmann 1998, Painterly rendering with curved brush strokes of
        multiple sizes.
        """
        check_picture(picture)
        check_count("the number of strokes", count)
        generator = generator_of(seed)
        image, size = picture[0].detach(), (picture.shape[-2], picture.shape[-1])
        edge = torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], dim=1)
        paper = edge.median(dim=1).values
        drawn, shown = [], paper[:, None, None].expand_as(image)
        ends = [round(count * sum(LAYERS[: n + 1])) for n in range(len(LAYERS))]
        for layer, (first, last) in enumerate(zip([0, *ends], [*ends[:-1], count], strict=False)):
            if last <= first:
                continue
            width = COARSE * (FINE / COARSE) ** (layer / (len(LAYERS) - 1))
            drawn.append(_scatter(image, shown, last - first, width * min(size), generator))
            shown = rasterise(drawn[-1], shown, size)[0]
        parts = ("points", "widths", "colours", "opacities")
        joined = Strokes(*(torch.cat([getattr(some, part) for some in drawn]) for part in parts))
        return cls(joined, size, (float(paper[0]), float(paper[1]), float(paper[2])))

    def strokes(self, factor: float = 1.0) -> Strokes:
        """The strokes in pixels, with gradients; of a paper `factor` times as large."""
        return Strokes(*self._leaves).scaled(self._side * factor)

    def parameters(self) -> list[Adjustable]:
        """Points, widths, colours and opacities, the first two as shares of the shorter side."""
        pairs = zip(self._leaves, self.rates, strict=True)
        return [Adjustable(leaf, rate) for leaf, rate in pairs]

    def render(self) -> Tensor:
        """(1, 3, H, W) values 0 to 1."""
        return rasterise(self.strokes(), self.paper, self.size)

    def enlarge(self, size: tuple[int, int]) -> Tensor:
        """(1, 3, H, W) the drawing at another size, without gradients.

        Each axis has a factor of its own, since a rounded shape is never quite the same.
        """
        down, right = (new / old for new, old in zip(size, self.size, strict=True))
        with torch.no_grad():
            own = self.strokes()
            points = own.points * own.points.new_tensor([right, down])
            widths = own.widths * (down * right) ** 0.5
            large = Strokes(points, widths, own.colours, own.opacities)
            return rasterise(large, self.paper, size)

    @torch.no_grad()
    def after_step(self) -> None:
        """Keep points near the paper, and widths, colours and opacities in their ranges."""
        points, widths, colours, opacities = self._leaves
        high, wide = (side / self._side for side in self.size)
        points[..., 0].clamp_(-BEYOND, wide + BEYOND)
        points[..., 1].clamp_(-BEYOND, high + BEYOND)
        widths.clamp_(*WIDTHS)
        colours.clamp_(0, 1)
        opacities.clamp_(0, 1)

    def svg(self, title: str = "") -> str:
        """The drawing as SVG."""
        return write_svg(self.strokes(), self.paper, self.size, title)


def _scatter(
    image: Tensor, shown: Tensor, count: int, width: float, generator: torch.Generator
) -> Strokes:
    """Strokes of one width where `image` differs from what is `shown`, across its gradient."""
    _, high, wide = image.shape
    wrong = (image - shown).abs().sum(0).flatten() + 1e-3  # (P,) so that any place is possible
    places = torch.multinomial(wrong, count, replacement=True, generator=generator)
    x, y = places % wide, places // wide
    grey = image.mean(0)
    down, right = torch.gradient(grey) if min(high, wide) > 1 else (grey * 0, grey * 0)
    along = torch.stack([-down[y, x], right[y, x]], dim=-1)  # (N, 2) along an edge
    turn = 2 * torch.pi * torch.rand(count, generator=generator)
    chance = torch.stack([turn.cos(), turn.sin()], dim=-1)
    along = torch.nn.functional.normalize(along + 1e-3 * chance, dim=-1)
    steps = torch.tensor([-1.5, -0.5, 0.5, 1.5])[None, :, None] * width * 0.7
    centre = torch.stack([x, y], dim=-1) + 0.5
    return Strokes(
        centre[:, None] + steps * along[:, None],
        torch.full((count,), width),
        image[:, y, x].T.contiguous(),
        torch.full((count,), 0.9),
    )
