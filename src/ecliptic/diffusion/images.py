"""Encodes images for diffusion models: their vectors or patches, and the negative for no image.

The rules are `ImageRule` of `families.py`. `inputs` reads and normalises images; this module fits
them to the square, as the pipelines do. No vector is made unit length.
B images, T tokens, D width, E vector size, S image side, N steps of noise.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ecliptic.checks import check_count, check_finite
from ecliptic.diffusion.families import ImageRule
from ecliptic.diffusion.micro_conditioning import sinusoid
from ecliptic.engine import Clip, image_items
from ecliptic.errors import ConfigError, ImageError, ImageLimitError, InputError, ShapeError
from ecliptic.inputs import Preprocess, describe, open_image


def encode_images(clip: Clip, images: Any, rule: ImageRule) -> tuple[Tensor, Tensor]:
    """Encode images for a denoiser, and as many times no image; float32 on CPU.

    Args:
        clip: has an image tower.
        images: an image or a list of them, as `Clip.encode_image` takes; floats of shape
            (3, S, S) are ready pixels, resized and normalised.
        rule: which layer, which negative, which resize.

    Returns:
        Two tensors of one shape: (B, E), (B, 1, E) with a token axis, or (B, T, D) of a layer.

    Raises:
        InputError: no images; ImageError: one that cannot be used.
        ConfigError: a hidden layer of a ResNet, or one that does not exist.
        NumericalError: a result is NaN or infinite.
        MissingTowerError: the clip has no image tower.

    Source: diffusers `_encode_image` of pipeline_stable_video_diffusion.py, `encode_image` of
    pipeline_stable_diffusion.py, `get_zero_embed` of pipeline_kandinsky2_2_prior.py.
    """
    preprocess = clip.preprocessor  # first, since it raises MissingTowerError
    items = list(image_items(images))
    if not items:
        raise InputError("no images were given; pass at least one.")
    prepare = resize_blurred if rule.blurred_resize else crop_centre
    image = _encode(clip, (prepare(preprocess, item) for item in items), rule)
    if rule.negative == "zeros":
        return image, torch.zeros_like(image)
    if rule.negative == "same":
        return image, image.clone()
    spec = preprocess.spec
    pixels = torch.zeros(3, spec.size, spec.size)  # normalised zeros: the mean colour
    if rule.negative == "encoded black":
        mean, std = (torch.tensor(x)[:, None, None] for x in (spec.mean, spec.std))
        pixels = pixels - mean / std
    return image, _encode(clip, [pixels], rule).expand_as(image).clone()


def resize_blurred(preprocess: Preprocess, source: Any) -> Tensor:
    """Blur an image, squash it to the square and normalise it: (3, S, S) pixels.

    Like the pipeline, this ignores EXIF rotation and transparency; rotate and flatten such images
    first.

    Raises:
        ConfigError: the clip makes "close" or "fast" pixels, which need another resize.

    Source: diffusers pipeline_stable_video_diffusion.py `_resize_with_antialiasing`: on values of
    -1 to 1, a Gaussian of (scale - 1) / 2 pixels, then bicubic between the corners' centres.
    """
    if _is_ready(source):
        return torch.from_numpy(preprocess(source))
    if preprocess.pixels != "exact":
        raise ConfigError(
            f"this family blurs images before it resizes them, so pixels={preprocess.pixels!r} has "
            "no meaning; load the model with pixels='exact'."
        )
    rgb = np.asarray(open_image(source, preprocess.limits).convert("RGB"), dtype=np.float32)
    height, width, _ = rgb.shape
    if min(height, width) < 2:
        raise ImageError(
            f"{describe(source)} is {width}x{height} pixels, and a line cannot be blurred; "
            "use an image of at least 2x2."
        )
    values = torch.from_numpy(rgb / 255.0).permute(2, 0, 1)[None] * 2 - 1  # (1, 3, H, W)
    side = preprocess.spec.size
    values = _blur(_blur(values, width / side, axis=3), height / side, axis=2)
    values = F.interpolate(values, (side, side), mode="bicubic", align_corners=True)
    mean, std = (
        torch.tensor(x)[:, None, None] for x in (preprocess.spec.mean, preprocess.spec.std)
    )
    return ((values[0] + 1) / 2 - mean) / std  # (3, S, S)


def crop_centre(preprocess: Preprocess, source: Any) -> Tensor:
    """Resize an image and crop its centre as diffusers' feature extractors do: (3, S, S) pixels.

    They crop from floor((n - S) / 2), which open_clip rounds to the nearest, and convert to RGB
    before they resize. A clip loaded with `preprocess="robust"`, or with other pixels than "exact",
    uses its own preprocessing.

    Source: transformers image_processing_clip.py, image_transforms.py `center_crop`.
    """
    spec, limits = preprocess.spec, preprocess.limits
    own = preprocess.mode == "robust" or preprocess.pixels != "exact"
    if _is_ready(source) or spec.resize == "squash" or own:
        return torch.from_numpy(preprocess(source))
    image = open_image(source, limits).convert("RGB")
    width, height = (int(spec.size * edge / min(image.size)) for edge in image.size)
    if width * height > limits.pixels:
        raise ImageLimitError(
            f"{describe(source)} would have {width}x{height} pixels after its shorter side is "
            f"resized, over the limit of {limits.pixels} pixels; crop it first."
        )
    left, top = (width - spec.size) // 2, (height - spec.size) // 2
    image = image.resize((width, height), Image.Resampling[spec.interpolation.upper()])
    return torch.from_numpy(preprocess(image.crop((left, top, left + spec.size, top + spec.size))))


def cosine_alphas(steps: int = 1000) -> Tensor:
    """(N,) falling share of the signal's variance that is left at each noise level.

    Source: Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2; the schedule of the released
    stable unCLIP models ("squaredcos_cap_v2" in diffusers, steps of at most 0.999).
    """
    check_count("steps", steps)
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    left = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - left[1:] / left[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0).float()


def augment_image_vectors(
    vectors: Tensor,
    level: int,
    noise: Tensor | torch.Generator,
    *,
    mean: Tensor | float = 0.0,
    std: Tensor | float = 1.0,
    alphas: Tensor | None = None,
) -> Tensor:
    """Add noise to (B, E) raw vectors -> (B, 2E): noised, then the level as a sinusoid.

    Args:
        vectors: (B, E) raw image vectors.
        level: how much noise, an index of the schedule; 0 is the least.
        noise: (B, E) standard normal values, or the generator that draws them.
        mean, std: (E,) or (1, E) statistics of the checkpoint's `image_normalizer`.
        alphas: (N,) cumulative products of the schedule; None is `cosine_alphas()`.

    Raises:
        ConfigError: a level outside the schedule.
        ShapeError: the tensors do not fit together.
        NumericalError: a result is NaN or infinite.

    Source: diffusers pipeline_stable_unclip_img2img.py `noise_image_embeddings`.
    """
    alphas = cosine_alphas() if alphas is None else alphas
    if not 0 <= level < len(alphas):
        raise ConfigError(f"level must be 0 to {len(alphas) - 1}, got {level!r}.")
    noise = _draw_noise(vectors, noise) if isinstance(noise, torch.Generator) else noise
    _check_fit(vectors, noise, mean, std)
    left = alphas[level].to(vectors)
    noised = left.sqrt() * ((vectors - mean) / std) + (1 - left).sqrt() * noise
    time = torch.full((len(vectors),), float(level), device=vectors.device)
    waves = sinusoid(time, vectors.shape[1]).to(vectors.dtype)
    noised = torch.cat([noised * std + mean, waves], dim=1)
    check_finite(noised, "the noised vectors", "check the vectors, the noise and the statistics.")
    return noised


def _encode(clip: Clip, images: Iterable[Tensor], rule: ImageRule) -> Tensor:
    """(B, E), (B, 1, E) or (B, T, D), in memory bounded by the result."""
    rows = torch.cat([part.vectors for part in clip.image_encoder(rule.layer).stream(images)])
    return rows[:, None] if rule.token_axis and rule.layer is None else rows


def _is_ready(source: Any) -> bool:
    """Whether `source` holds floats, which are ready pixels."""
    if isinstance(source, Tensor):
        return source.is_floating_point()
    return isinstance(source, np.ndarray) and source.dtype.kind == "f"


def _blur(values: Tensor, scale: float, axis: int) -> Tensor:
    """Convolve (1, 3, H, W) along one axis with the Gaussian for shrinking by `scale`."""
    sigma = max((scale - 1) / 2, 0.001)  # pixels
    size = int(max(4 * sigma, 3)) | 1  # taps, odd
    places = torch.arange(size, dtype=torch.float32) - size // 2
    taps = torch.exp(-(places**2) / (2 * sigma**2))
    kernel = (taps / taps.sum()).view(1, 1, -1).expand(3, 1, -1)
    kernel = kernel[:, :, None] if axis == 3 else kernel[..., None]
    pad = [size // 2] * 2
    edges = [*pad, 0, 0] if axis == 3 else [0, 0, *pad]
    return F.conv2d(F.pad(values, edges, mode="reflect"), kernel, groups=3)


def _draw_noise(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal values on the generator's device, then move them to the vectors'."""
    noise = torch.randn(
        vectors.shape, generator=generator, device=generator.device, dtype=vectors.dtype
    )
    return noise.to(vectors.device)


def _check_fit(vectors: Tensor, noise: Tensor, mean: Tensor | float, std: Tensor | float) -> None:
    E = vectors.shape[-1]
    for name, tensor in (("mean", mean), ("std", std)):
        if isinstance(tensor, Tensor) and tuple(tensor.shape) not in ((), (E,), (1, E)):
            raise ShapeError(f"{name} {tuple(tensor.shape)} must be ({E},), one for each value.")
    if vectors.ndim != 2 or noise.shape != vectors.shape:
        raise ShapeError(
            f"vectors {tuple(vectors.shape)} must be (B, E), and noise {tuple(noise.shape)} must "
            "have the same shape."
        )
