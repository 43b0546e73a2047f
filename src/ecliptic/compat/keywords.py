"""The keyword arguments of open_clip's `create_model...` functions (factory.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from ecliptic.checks import check_choice
from ecliptic.compat.loading import Placement
from ecliptic.engine import Precision
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, Interpolation, Resize
from ecliptic.model import Activation

_PRECISIONS: Mapping[str, Precision] = {  # amp keeps the weights in float32; autocast casts
    **dict.fromkeys(("fp32", "amp", "amp_bf16", "amp_bfloat16"), "fp32"),
    **dict.fromkeys(("fp16", "pure_fp16"), "fp16"),
    **dict.fromkeys(("bf16", "pure_bf16"), "bf16"),
}


@dataclass(frozen=True)
class Keywords:
    """The keyword arguments of open_clip's `create_model...` that ecliptic supports."""

    precision: str = "fp32"
    device: str | torch.device = "cpu"
    load_weights: bool = True  # False: random weights of the same sizes
    force_quick_gelu: bool = False
    force_image_size: int | tuple[int, int] | None = None  # pixels
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    image_interpolation: Interpolation | None = None
    image_resize_mode: Resize | None = None
    output_dict: bool | None = False
    cache_dir: str | None = None  # not used, with a warning
    jit: bool = False  # nothing is compiled; the numbers are the same
    weights_only: bool = True  # files are always read without running code

    @property
    def placement(self) -> Placement:
        """The same settings for `load`."""
        check_choice("precision", self.precision, _PRECISIONS)
        size = self.force_image_size
        if isinstance(size, tuple):
            if len(set(size)) != 1:
                raise ConfigError(f"force_image_size {size} is not square; pass one number.")
            size = size[0]
        gelu: Activation | None = "quick_gelu" if self.force_quick_gelu else None
        return Placement(str(self.device), _PRECISIONS[self.precision], size, gelu)

    def change(self, spec: ImageSpec) -> ImageSpec:
        """`spec` with the settings that the caller overrides."""
        return ImageSpec(
            size=spec.size,
            mean=self.image_mean or spec.mean,
            std=self.image_std or spec.std,
            interpolation=self.image_interpolation or spec.interpolation,
            resize=self.image_resize_mode or spec.resize,
        )


# The positional arguments after (model_name, pretrained), open_clip 3.3 factory.py
CREATE = (
    "load_weights",
    "precision",
    "device",
    "jit",
    "force_quick_gelu",
    "force_custom_text",
    "force_patch_dropout",
    "force_image_size",
)
FROM_PRETRAINED = tuple(
    name for name in CREATE if name not in ("load_weights", "force_patch_dropout")
)


def read_options(
    given: Mapping[str, Any], values: Sequence[Any] = (), order: Sequence[str] = ()
) -> Keywords:
    """Make `Keywords` from keyword arguments and from positional `values` in open_clip's `order`.

    Raises:
        ConfigError: an option is unknown or given twice, or there are too many values.
    """
    if len(values) > len(order) or (twice := set(order[: len(values)]) & set(given)):
        reason = f"{', '.join(twice)} given twice" if len(values) <= len(order) else "too many"
        raise ConfigError(f"options by position: {reason}; pass them by name.")
    known = {field.name for field in fields(Keywords)}
    placed = dict(zip(order, values, strict=False))
    left_out = {name for name in placed if name not in known and not placed[name]}
    given = {**{n: v for n, v in placed.items() if n not in left_out}, **given}
    if unknown := sorted(set(given) - known):
        raise ConfigError(
            f"{', '.join(unknown)} is not supported; the options are {', '.join(sorted(known))}."
        )
    return Keywords(**given)
