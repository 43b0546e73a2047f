"""The numbers beside a prompt: image sizes of SDXL, frame rate and motion of SVD.

Sizes are height first. Sources: diffusers `_get_add_time_ids` of the SDXL, SDXL img2img and Stable
Video Diffusion pipelines; diffusers models/embeddings.py `get_timestep_embedding`, which
generative-models encoders/modules.py `ConcatTimestepEmbedderND` equals.
B batch, N numbers, E vector size.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ecliptic.checks import check_choice, check_count, check_finite
from ecliptic.errors import ConfigError, ShapeError

SizeRule: TypeAlias = Literal["sdxl", "refiner"]
Pair: TypeAlias = tuple[int, int]  # height and width, or top and left, in pixels

AESTHETIC = {False: 6.0, True: 2.5}  # whether negative -> score, 0 to 10; pipeline defaults
LONGEST_PERIOD = 10_000.0  # of the sinusoids


@dataclass(frozen=True)
class Sizes:
    """Image sizes and scores that SDXL reads; the defaults are those of its pipelines."""

    original: Pair = (1024, 1024)  # height and width before training resized it, pixels
    crop: Pair = (0, 0)  # top and left of the crop, pixels
    target: Pair | None = None  # wanted height and width; None: as `original`
    aesthetic: float = AESTHETIC[False]  # of the refiner, 0 to 10
    negative_aesthetic: float = AESTHETIC[True]
    negative_original: Pair | None = None  # of the negative prompt; None: as of the prompt
    negative_crop: Pair | None = None
    negative_target: Pair | None = None

    def of_negative(self) -> "Sizes":
        """The sizes and the score that the negative prompt reads."""
        return Sizes(
            self.original if self.negative_original is None else self.negative_original,
            self.crop if self.negative_crop is None else self.negative_crop,
            self.target if self.negative_target is None else self.negative_target,
            self.negative_aesthetic,
        )

    def ids(self, rule: SizeRule, batch: int, *, negative: bool = False) -> Tensor:
        """`size_ids` for every prompt of a batch: (batch, 6) or (batch, 5)."""
        own = self.of_negative() if negative else self
        one = size_ids(rule, own.original, own.crop, own.target, own.aesthetic)
        return one.expand(batch, -1)


def size_ids(
    rule: SizeRule,
    original_size: Pair = (1024, 1024),
    crop_top_left: Pair = (0, 0),
    target_size: Pair | None = None,
    aesthetic_score: float | None = None,
    *,
    negative: bool = False,
) -> Tensor:
    """(1, 6) sizes of SDXL's base, or (1, 5) of its refiner, float32: a UNet's `time_ids`.

    Args:
        rule: "sdxl" (original, crop, target) or "refiner" (original, crop, score).
        original_size: height and width of the image before training resized it, pixels.
        crop_top_left: where the crop began, pixels.
        target_size: wanted height and width, pixels; None: `original_size`.
        aesthetic_score: 0 to 10, for the refiner only; None: 6, or 2.5 for a negative prompt.
        negative: the sizes are for a negative prompt.

    Raises:
        ConfigError: an unknown rule, or numbers that are not sizes.
    """
    check_choice("rule", rule, get_args(SizeRule))
    original = _check_pair("original_size", original_size)
    crop = _check_pair("crop_top_left", crop_top_left)
    target = original if target_size is None else _check_pair("target_size", target_size)
    score = AESTHETIC[negative] if aesthetic_score is None else aesthetic_score
    check_finite(score, "aesthetic_score", "pass a number from 0 to 10.", ConfigError)
    last = target if rule == "sdxl" else (score,)
    return torch.tensor([[*original, *crop, *last]], dtype=torch.float32)  # (1, N)


def video_ids(
    fps: float = 7, motion_bucket_id: float = 127, noise_aug_strength: float = 0.02
) -> Tensor:
    """(1, 3) frame rate, motion and noise of Stable Video Diffusion: a UNet's `added_time_ids`.

    Args:
        fps: frames per second of the video; the model reads fps - 1.
        motion_bucket_id: 0 to 255; larger means more motion.
        noise_aug_strength: noise added to the first image, standard deviations.

    Raises:
        ConfigError: a number that is not finite.

    Source: diffusers pipeline_stable_video_diffusion.py `__call__`, its defaults too.
    """
    numbers = (fps - 1, motion_bucket_id, noise_aug_strength)
    what = "fps, motion_bucket_id and noise_aug_strength"
    check_finite(numbers, what, "the defaults are 7, 127 and 0.02.", ConfigError)
    return torch.tensor([numbers], dtype=torch.float32)


def sinusoid(numbers: Tensor, width: int = 256) -> Tensor:
    """(...) numbers -> (..., width) float32: cosines, then sines, of falling frequency.

    Source: `get_timestep_embedding` with flip_sin_to_cos=True and downscale_freq_shift=0.
    """
    check_count("width", width, 2)
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=numbers.device)
    angles = numbers.float()[..., None] * torch.exp(steps * (-math.log(LONGEST_PERIOD) / half))
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return torch.nn.functional.pad(waves, (0, width % 2))  # (..., width)


def vector_y(pooled: Tensor, sizes: Tensor, width: int = 256) -> Tensor:
    """(B, E) pooled vectors and (B, N) or (1, N) sizes -> (B, E + N * width), SDXL's `y`.

    Raises:
        ShapeError: the two do not fit together.

    Source: diffusers unet_2d_condition.py `get_aug_embed`, addition_embed_type "text_time".
    """
    if pooled.ndim != 2 or sizes.ndim != 2 or len(sizes) not in (1, len(pooled)):
        raise ShapeError(
            f"pooled {tuple(pooled.shape)} must be (B, E) and sizes {tuple(sizes.shape)} "
            "(B, N) or (1, N); make the sizes with size_ids."
        )
    waves = sinusoid(sizes.to(pooled.device), width).flatten(1)  # (B or 1, N * width)
    return torch.cat([pooled, waves.to(pooled.dtype).expand(len(pooled), -1)], dim=-1)


def _check_pair(name: str, values: Pair) -> Pair:
    whole = isinstance(values, tuple | list) and all(type(value) is int for value in values)
    if not whole or len(values) != 2 or min(values) < 0:
        raise ConfigError(
            f"{name} must be two whole numbers of pixels, height first, got {values!r}."
        )
    return values[0], values[1]
