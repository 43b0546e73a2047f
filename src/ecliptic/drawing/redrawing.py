"""A picture is drawn anew as something else: it is turned into noise and back, with other words.

The noise is found by the sampler's own steps in reverse (DDIM inversion: Song et al. 2021,
arXiv:2010.02502, section 4.3), so that what the words do not change stays. S picture size.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from ecliptic.drawing.drawings import (
    SHIFT,
    DrawSettings,
    ImagePrompt,
    steered,
    to_unit,
)
from ecliptic.drawing.model import DrawingModel
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import SampleStep, encode_prompts, flow_schedule, generator_of, sample

_FIRST = 0.04  # time at which the inversion begins, with as much noise


def redraw(
    model: DrawingModel,
    picture: Tensor,
    source: ImagePrompt,
    target: ImagePrompt,
    strength: float = 0.6,
    settings: DrawSettings | None = None,
    watch: Callable[[SampleStep], object] | None = None,
) -> Tensor:
    """Draw a picture anew with the words `target` in place of `source`.

    Args:
        model: the drawing model.
        picture: (3, S, S), values 0..1.
        source: what it shows.
        target: what it should show.
        strength: share of the noise, above 0 and below 1; more changes more.
        settings: guidance and steps of the way back.
        watch: is called after each step of the way back.

    Returns:
        (3, S, S), values 0..1.

    Raises:
        ConfigError: a strength out of range.
        ShapeError: the picture has another size than the model's.
    """
    settings = settings or DrawSettings()
    if not 0 < strength < 1:
        raise ConfigError(f"strength must be above 0 and below 1, got {strength}.")
    size = model.net.config.size
    if picture.shape != (3, size, size):
        raise ShapeError(
            f"the drawing model redraws pictures of {size} x {size} pixels, got "
            f"{tuple(picture.shape)}; resize the picture first."
        )
    there = encode_prompts(model.clip, [source])
    back = encode_prompts(model.clip, [target])
    schedule = flow_schedule(SHIFT)
    times = schedule.times(settings.steps)
    falling = torch.cat([torch.tensor([strength]), times[times < strength]])
    rising = torch.cat([torch.tensor([_FIRST]), falling.flip(0)[falling.flip(0) > _FIRST]])
    noise = torch.randn(1, 3, size, size, generator=generator_of(settings.seed, 0))
    start = torch.lerp(picture[None] * 2 - 1, noise, _FIRST)
    with torch.no_grad():
        plain = model.denoiser(there, None, 1.0)
        x = sample(plain, start, "x0", schedule, times=rising)
        denoise = steered(model, back, there, settings)
        x0 = sample(denoise, x, "x0", schedule, times=falling, watch=watch)
    return to_unit(x0)[0].clamp(0, 1)


def fit_picture(image: Image.Image, size: int) -> Image.Image:
    """An RGB picture in the middle of a white square of `size` pixels."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    page = Image.new("RGB", (size, size), "white")
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    page.paste(small, ((size - width) // 2, (size - height) // 2))
    return page
