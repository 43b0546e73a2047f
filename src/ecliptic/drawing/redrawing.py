"""A picture is drawn anew as something else: it is turned into noise and back, with other words.

The noise is found by the sampler's own steps in reverse (DDIM inversion: Song et al. 2021,
arXiv:2010.02502, section 4.3), so that what the words do not change stays. The inversion of a small
model leaves much of the picture in the noise, so most of it is exchanged for new noise (as in
SDEdit: Meng et al. 2022, arXiv:2108.01073). S picture size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.checks import check_number
from ecliptic.drawing.drawings import SHIFT, DrawSettings, steered, to_unit
from ecliptic.drawing.model import DrawingModel, load_drawing
from ecliptic.errors import ConfigError
from ecliptic.guidance import (
    DirectionalLoss,
    Edit,
    Frame,
    Optimised,
    SampleStep,
    encode_prompts,
    flow_schedule,
    generator_of,
    judge_edit,
    read_mask,
    read_picture,
    sample,
)
from ecliptic.inputs import ImageSource

_FIRST = 0.04  # time at which the inversion begins, with as much noise
FRESH = 0.85  # share of the variance of the noise that is new
_FRAMES = 6  # pictures of the way back


@dataclass(frozen=True)
class RedrawSettings:
    """How a picture is drawn anew."""

    strength: float = 0.85  # share of noise, above 0 and below 1; more changes more
    mask: "ImageSource | None" = None  # white may change; as large as the picture
    drawing: DrawSettings = field(default_factory=DrawSettings)

    def __post_init__(self) -> None:
        check_number("strength", self.strength, "pass a share such as 0.85.")
        if not 0 < self.strength < 1:
            raise ConfigError(f"strength must be above 0 and below 1, got {self.strength}.")


def redraw(
    picture: ImageSource,
    source: str,
    target: str,
    settings: RedrawSettings | None = None,
    report: Callable[[int, float], object] | None = None,
    model: DrawingModel | None = None,
) -> Edit:
    """Draw `picture` anew with the text `target` in place of `source`.

    The drawing model works at 64 x 64 pixels; the result has the size of the picture, and less
    detail. Pixels where the mask is black stay exactly as they are.

    Args:
        picture: a path, PIL image, bytes or array.
        source: what it shows.
        target: what it should show.
        settings: None takes the defaults.
        report: called after each step of the way back with its number and the directional loss.
        model: another drawing model than the embedded one.

    Raises:
        ImageError: the picture or the mask cannot be read.
        ConfigError: equal texts, or a strength out of range.
        ShapeError: the mask has another size than the picture.
    """
    how, model = settings or RedrawSettings(), model or load_drawing()
    whole = read_picture(picture)
    mask = read_mask(how.mask, whole) if how.mask is not None else None
    small = fit_square(whole, model.net.config.size)
    loss = DirectionalLoss(model.clip, source, target, small, seed=how.drawing.seed)
    seen = _WayBack(loss, small, report)
    found = redraw_tensor(model, small, source, target, how, seen.watch)
    after = unfit_square(found, whole)
    if mask is not None:
        after = (whole + mask * (after - whole)).where(mask > 0, whole)
    before = (seen.frames[0].loss, *seen.losses[:-1])  # each step, as in `Optimised`
    way = Optimised(found, before, tuple(seen.frames))
    return Edit(whole, after, way, None, *judge_edit(loss, small, found, target))


def _renew(x: Tensor, picture: Tensor, t: float, fresh: Tensor) -> Tensor:
    """Exchange a part of the noise that the inversion found, which is nearly the picture itself."""
    found = (x - (1 - t) * picture.to(x.device)) / t
    mixed: Tensor = (1 - FRESH) ** 0.5 * found + FRESH**0.5 * fresh.to(x.device)
    return (1 - t) * picture.to(x.device) + t * mixed


class _WayBack:
    """The directional losses of the steps, and some of their pictures."""

    def __init__(
        self, loss: DirectionalLoss, start: Tensor, report: Callable[[int, float], object] | None
    ) -> None:
        self.loss, self.report = loss, report
        self.losses: list[float] = []
        self.frames = [Frame(0, start, self._measure(start))]

    def watch(self, step: SampleStep) -> None:
        """Note a step."""
        seen = to_unit(step.x0).clamp(0, 1)
        self.losses.append(self._measure(seen))
        if step.number % max(1, step.steps // _FRAMES) == 0 or step.number == step.steps:
            self.frames.append(Frame(step.number, seen, self.losses[-1]))
        if self.report is not None:
            self.report(step.number, self.losses[-1])

    @torch.no_grad()
    def _measure(self, picture: Tensor) -> float:
        return float(self.loss(picture))


def redraw_tensor(
    model: DrawingModel,
    picture: Tensor,
    source: str,
    target: str,
    settings: RedrawSettings,
    watch: Callable[[SampleStep], object] | None = None,
) -> Tensor:
    """As `redraw`, of a picture (1, 3, S, S) with values 0..1; gives the same."""
    there, back = encode_prompts(model.clip, [source]), encode_prompts(model.clip, [target])
    drawing = settings.drawing
    times = flow_schedule(SHIFT).times(drawing.steps)
    falling = torch.cat([torch.tensor([settings.strength]), times[times < settings.strength]])
    first = min(_FIRST, settings.strength / 2)
    rising = torch.cat([torch.tensor([first]), falling[falling > first].flip(0)])
    noise = torch.randn(picture.shape, generator=generator_of(drawing.seed, 0))
    start = torch.lerp(picture * 2 - 1, noise, first).to(model.clip.device)
    plain, pulled = model.denoiser(there, None, 1.0), steered(model, back, there, drawing)
    x = sample(plain, start, "x0", flow_schedule(), times=rising)
    x = _renew(x, picture * 2 - 1, settings.strength, noise)
    x0 = sample(pulled, x, "x0", flow_schedule(), times=falling, watch=watch)
    return to_unit(x0).clamp(0, 1).cpu()


def fit_square(picture: Tensor, size: int) -> Tensor:
    """(1, 3, H, W) in the middle of a white square: (1, 3, S, S)."""
    high, wide = _inner(picture, size)
    small = F.interpolate(picture, (high, wide), mode="bicubic", antialias=True).clamp(0, 1)
    left, top = (size - wide) // 2, (size - high) // 2
    return F.pad(small, (left, size - wide - left, top, size - high - top), value=1.0)


def unfit_square(square: Tensor, like: Tensor) -> Tensor:
    """The part of a square that `fit_square` filled, at the size of the picture."""
    size = square.shape[-1]
    high, wide = _inner(like, size)
    left, top = (size - wide) // 2, (size - high) // 2
    part = square[..., top : top + high, left : left + wide]
    return F.interpolate(part, like.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)


def _inner(picture: Tensor, size: int) -> tuple[int, int]:
    high, wide = picture.shape[-2:]
    share = size / max(high, wide)
    return max(1, round(high * share)), max(1, round(wide * share))
