"""The two towers of CLIP: tensors in, tensors out; no files, no pictures, no strings.

The sizes (`ClipConfig` and its parts) import no torch; the modules arrive when first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecliptic.model.config import (
    Activation,
    ClipConfig,
    ImageConfig,
    ResNetConfig,
    TextConfig,
    ViTConfig,
    check_activation,
)

if TYPE_CHECKING:
    from ecliptic.model.initialise import random_model
    from ecliptic.model.layers import Attention, Block, LayerNorm, QuickGELU
    from ecliptic.model.resnet import ModifiedResNet
    from ecliptic.model.states import TowerStates
    from ecliptic.model.text import TextTower, end_positions
    from ecliptic.model.two_towers import ImageTower, TwoTowers, build
    from ecliptic.model.vision import VisionTransformer, resize_positions

_HOMES = {
    "initialise": ["random_model"],
    "layers": ["Attention", "Block", "LayerNorm", "QuickGELU"],
    "resnet": ["ModifiedResNet"],
    "states": ["TowerStates"],
    "text": ["TextTower", "end_positions"],
    "two_towers": ["ImageTower", "TwoTowers", "build"],
    "vision": ["VisionTransformer", "resize_positions"],
}

__all__ = [
    "Activation",
    "Attention",
    "Block",
    "ClipConfig",
    "ImageConfig",
    "ImageTower",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResNetConfig",
    "TextConfig",
    "TextTower",
    "TowerStates",
    "TwoTowers",
    "ViTConfig",
    "VisionTransformer",
    "build",
    "check_activation",
    "end_positions",
    "random_model",
    "resize_positions",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"ecliptic.model.{module}"), name)
    raise AttributeError(f"module 'ecliptic.model' has no attribute {name!r}")
