"""`Runtime` for a single tower, as functions of the tower."""

from typing import Any

from torch import Tensor

from ecliptic.model import ClipConfig, ImageTower, TextOutputs, TextTower, build
from ecliptic.runtime import Runtime


def runtime_of(tower: TextTower | ImageTower) -> Runtime:
    """Make a runtime of `tower` itself, not of a copy."""
    text = isinstance(tower, TextTower)
    embed = tower.config.width if text else 8
    config = ClipConfig(
        embed=embed, image=None if text else tower.config, text=tower.config if text else None
    )
    model = build(config)
    if text:
        model.text = tower
    else:
        model.image = tower
    return Runtime(model)


def encode_text(tower: TextTower, tokens: Tensor) -> Tensor:
    return runtime_of(tower).text(tokens)


def text_outputs(tower: TextTower, tokens: Tensor, **options: Any) -> TextOutputs:
    return runtime_of(tower).text_outputs(tokens, **options)


def encode_image(tower: ImageTower, pixels: Tensor) -> Tensor:
    return runtime_of(tower).image(pixels)


def image_sequence(tower: ImageTower, pixels: Tensor, **options: Any) -> Tensor:
    return runtime_of(tower).image_sequence(pixels, **options)
