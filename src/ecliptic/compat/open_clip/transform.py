"""open_clip's transform.py: a preprocessing from its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ecliptic.compat.pixels import TRAIN_AREA, Compose, ToPixels, ToTrainingPixels
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec

__all__ = ["AugmentationCfg", "Compose", "image_transform"]


@dataclass
class AugmentationCfg:
    """The settings of training crops; only `scale`, the part of the area, may differ."""

    scale: tuple[float, float] = TRAIN_AREA
    ratio: tuple[float, float] | None = None
    color_jitter: float | tuple[float, ...] | None = None
    re_prob: float | None = None
    re_count: int | None = None
    use_timm: bool = False
    color_jitter_prob: float | None = None
    gray_scale_prob: float | None = None


def image_transform(
    image_size: int | tuple[int, int],
    is_train: bool,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize_mode: str | None = None,
    interpolation: str | None = None,
    fill_color: int = 0,
    aug_cfg: Mapping[str, Any] | AugmentationCfg | None = None,
) -> Compose:
    """The preprocessing for training, or for evaluation.

    Args:
        image_size: pixels of a square.
        is_train: random crops, as `create_model_and_transforms` returns them.
        mean: of the colours, from 0 to 1; None is OpenAI's, as for `std`.
        std: deviation of the colours.
        resize_mode: "shortest" (the default) or "squash".
        interpolation: "bicubic" (the default) or "bilinear", for evaluation.
        fill_color: 0; no supported mode leaves anything to fill.
        aug_cfg: of training; only its `scale` may differ.

    Raises:
        ConfigError: a setting that does not exist here.
    """
    size = image_size if isinstance(image_size, int) else image_size[0]
    if fill_color or (not isinstance(image_size, int) and len(set(image_size)) > 1):
        raise ConfigError(
            f"image_size {image_size} with fill_color {fill_color} is not supported; images are "
            "square and have no border, so pass one number and no colour."
        )
    default = ImageSpec()
    spec = ImageSpec(
        size=size,
        mean=_by_channel(mean) or default.mean,
        std=_by_channel(std) or default.std,
        interpolation=interpolation or default.interpolation,  # type: ignore[arg-type] # checked
        resize=resize_mode or default.resize,  # type: ignore[arg-type] # by ImageSpec
    )
    return ToTrainingPixels(spec, _read_scale(aug_cfg)) if is_train else ToPixels(spec)


def _by_channel(value: float | Sequence[float] | None) -> tuple[float, float, float] | None:
    if value is None:
        return None
    return tuple(value) if isinstance(value, Sequence) else (value,) * 3  # type: ignore[return-value]


def _read_scale(given: Mapping[str, Any] | AugmentationCfg | None) -> tuple[float, float]:
    """The `scale` of an augmentation that asks for nothing else."""
    settings = given if isinstance(given, AugmentationCfg) else AugmentationCfg(**(given or {}))
    default = AugmentationCfg()
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name != "scale" and value and value != getattr(default, field.name):
            raise ConfigError(
                f"aug_cfg {field.name}={value!r} is not supported; only `scale` may be changed, "
                "so put other steps into `preprocess.transforms` yourself."
            )
    return settings.scale
