"""Drawings from words and pictures, by the embedded drawing model and CLIP guidance.

B batch, E vector size, S picture size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ecliptic.checks import check_count, check_number
from ecliptic.drawing.model import DrawingModel, load_drawing
from ecliptic.guidance import (
    ClipLoss,
    Cutouts,
    ImagePrompt,
    SampleStep,
    encode_prompts,
    flow_schedule,
    generator_of,
    guided,
    sample,
    to_bytes,
)

GUIDANCE, CLIP_GUIDANCE, STEPS = 3.0, 2.0, 24
SHIFT = 3.0  # of the schedule: more steps where there is much noise, which decide the shape
LATEST = 0.92  # time below which CLIP guides; above, a prediction says little of the drawing
CLIP_UNIT = 30.0  # scale of the CLIP loss for clip_guidance = 1
CUTOUTS = Cutouts(3, overview=1, smallest=44)


@dataclass(frozen=True)
class DrawSettings:
    """How a drawing is made."""

    guidance: float = GUIDANCE  # strength of classifier-free guidance; 1 has none
    clip_guidance: float = CLIP_GUIDANCE  # strength of CLIP guidance on top; 0 has none
    steps: int = STEPS
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("seed", self.seed, least=0)
        for name in ("guidance", "clip_guidance"):
            check_number(name, getattr(self, name), "pass a number, such as 2.")


def draw(
    prompt: ImagePrompt,
    count: int = 1,
    *,
    guidance: float = GUIDANCE,
    clip_guidance: float = CLIP_GUIDANCE,
    seed: int = 0,
    steps: int = STEPS,
    unlike: ImagePrompt | None = None,
    watch: Callable[[SampleStep], object] | None = None,
    model: DrawingModel | None = None,
) -> list[Image.Image]:
    """Draw with the embedded drawing model: small emoji-like drawings of things it was shown.

    Args:
        prompt: words; a picture, as a path (`pathlib.Path`) or PIL image, which is drawn anew; or a
            vector (E,).
        count: how many drawings.
        guidance: strength of classifier-free guidance; 1 has none, more is clearer and less varied.
        clip_guidance: strength of CLIP guidance on top; 0 has none and is quicker.
        seed: of the noise; drawing i is the same whatever the count.
        steps: of the sampler.
        unlike: what should not be drawn: classifier-free guidance leads away from it in place of
            from nothing in particular, and CLIP guidance has it with half the weight of the prompt.
        watch: is called after each step, with values -1..1.
        model: another drawing model than the embedded one.

    Returns:
        `count` RGB images of 64 x 64 pixels.

    Raises:
        ConfigError: a number that is out of range, or an empty prompt.
    """
    settings = DrawSettings(guidance, clip_guidance, steps, seed)
    model = model or load_drawing()
    pictures = draw_tensor(model, prompt, check_count("count", count), settings, unlike, watch)
    return [to_image(picture) for picture in pictures]


def draw_tensor(
    model: DrawingModel,
    prompt: ImagePrompt,
    count: int,
    settings: DrawSettings,
    unlike: ImagePrompt | None = None,
    watch: Callable[[SampleStep], object] | None = None,
) -> Tensor:
    """As `draw`: (count, 3, S, S), values 0..1."""
    vectors = encode_prompts(model.clip, [prompt]).expand(count, -1)
    away = None if unlike is None else encode_prompts(model.clip, [unlike]).expand(count, -1)
    denoise = steered(model, vectors, away, settings)
    size = model.net.config.size
    noise = torch.stack(
        [torch.randn(3, size, size, generator=generator_of(settings.seed, i)) for i in range(count)]
    )
    noise = noise.to(model.clip.device)
    x0 = sample(denoise, noise, "x0", flow_schedule(SHIFT), settings.steps, watch=watch)
    return to_unit(x0).clamp(0, 1)


def steered(
    model: DrawingModel, vectors: Tensor, away: Tensor | None, settings: DrawSettings
) -> Callable[[Tensor, Tensor], Tensor]:
    """The denoiser with both kinds of guidance; CLIP joins below the time `LATEST`."""
    denoise = model.denoiser(vectors, away, settings.guidance)
    if not settings.clip_guidance:
        return denoise
    prompts: Sequence[Tensor] = [vectors[0]] if away is None else [vectors[0], away[0]]
    weights = None if away is None else [1.0, -0.5]
    loss = ClipLoss(model.clip, prompts, weights, CUTOUTS, seed=settings.seed)
    schedule = flow_schedule()
    pulled = guided(
        denoise,
        loss,
        CLIP_UNIT * settings.clip_guidance,
        "x0",
        alphas=schedule.alphas,
        sigmas=schedule.sigmas,
        decode=to_unit,
    )
    return lambda x, t: pulled(x, t) if float(t.max()) < LATEST else denoise(x, t)


def to_unit(x0: Tensor) -> Tensor:
    """Values -1..1 -> 0..1."""
    return (x0 + 1) / 2


def to_image(picture: Tensor) -> Image.Image:
    """(3, S, S), values 0..1 -> a PIL image."""
    return Image.fromarray(to_bytes(picture[None]))
