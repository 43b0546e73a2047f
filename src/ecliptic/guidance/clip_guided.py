"""`clip_guided_diffusion`: one call from a diffusion model of pixels and words to images."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ecliptic.checks import check_count
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.guidance.chance import generator_of
from ecliptic.guidance.guiding import guided
from ecliptic.guidance.losses.clip_loss import ClipLoss, ImagePrompt
from ecliptic.guidance.losses.cutouts import CutoutPlan
from ecliptic.guidance.parametrisations import Parametrisation, check_parametrisation
from ecliptic.guidance.sampling import SampleStep, sample
from ecliptic.guidance.schedules import stored_schedule


class DiffusionModel(Protocol):
    """A denoiser of pixels with its schedule; `parametrisation` may be missing ("eps")."""

    alphas_cumprod: Tensor  # (T,) products of 1 - beta, falling
    shape: tuple[int, int, int]  # 3, height and width of its images

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, 3, H, W), values -1..1 with noise, and whole times (B,) -> its prediction."""


def clip_guided_diffusion(
    diffusion_model: DiffusionModel,
    clip: Clip,
    text_prompt: ImagePrompt,
    guidance_scale: float = 100,
    num_steps: int = 1000,
    *,
    count: int = 1,
    cutouts: CutoutPlan = 16,
    eta: float = 1.0,
    seed: int = 0,
    watch: Callable[[SampleStep], object] | None = None,
) -> Tensor:
    """Draw images of a text with an unconditional diffusion model, guided by CLIP.

    In each step the prediction of the noise becomes `eps + sqrt(1 - alphas_cumprod) scale grad L`,
    with L the CLIP loss of the predicted image and the gradient taken for x_t, through the model
    (Dhariwal and Nichol 2021, arXiv:2105.05233, algorithm 2). Without the square root, guidance is
    too strong by a factor that grows towards the end, without bound.

    Args:
        diffusion_model: `model(x, t)`, with `alphas_cumprod` and `shape`; it predicts the noise, or
            what its attribute `parametrisation` says.
        clip: says how far an image is from the text.
        text_prompt: words; or a picture.
        guidance_scale: weight of the CLIP loss; 0 samples without guidance.
        num_steps: steps, at most as many as the model has times.
        count: B, number of images.
        cutouts: as in `ClipLoss`.
        eta: 1 for DDPM's steps with noise, 0 for DDIM's without.
        seed: of the noise and of the cutouts.
        watch: is called after each step.

    Returns:
        (B, 3, H, W), values 0..1.

    Raises:
        ConfigError: the model lacks an attribute, or a setting is wrong.
        SamplingStoppedError: a step gave NaN; the error carries what was reached.
    """
    kind = _check_model(diffusion_model)
    schedule = stored_schedule(diffusion_model.alphas_cumprod)
    denoise = guided(
        diffusion_model,
        ClipLoss(clip, text_prompt, cutouts=cutouts, seed=seed),
        guidance_scale,
        kind,
        alphas=schedule.alphas,
        sigmas=schedule.sigmas,
        decode=lambda x0: (x0 + 1) / 2,
    )
    rows = range(check_count("count", count))
    noise = [torch.randn(diffusion_model.shape, generator=generator_of(seed, i)) for i in rows]
    x = torch.stack(noise).to(clip.device)
    x0 = sample(denoise, x, kind, schedule, num_steps, eta=eta, seed=seed + 1, watch=watch)
    return ((x0 + 1) / 2).clamp(0, 1)


def _check_model(model: DiffusionModel) -> Parametrisation:
    """What the model predicts; ConfigError if it lacks an attribute."""
    for name in ("alphas_cumprod", "shape"):
        if not hasattr(model, name):
            raise ConfigError(
                f"the diffusion model has no attribute {name!r}: set alphas_cumprod, the (T,) "
                "products of 1 - beta, and shape, (3, height, width), beside its call (x, t)."
            )
    return check_parametrisation(getattr(model, "parametrisation", "eps"))
