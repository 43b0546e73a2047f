"""The two towers of CLIP: tensors in, tensors out; no files, no pictures, no strings.

The sizes (`ClipConfig` and its parts) import no torch; the modules arrive when first named.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import arriving_later
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
    from ecliptic.model.states import TextOutputs, TowerStates, layer_index, wanted_layer
    from ecliptic.model.text import TextTower, end_positions
    from ecliptic.model.two_towers import ImageTower, TwoTowers, build
    from ecliptic.model.vision import VisionTransformer, resize_positions

_HOMES = {
    "Attention": "layers",
    "Block": "layers",
    "ImageTower": "two_towers",
    "LayerNorm": "layers",
    "ModifiedResNet": "resnet",
    "QuickGELU": "layers",
    "TextOutputs": "states",
    "TextTower": "text",
    "TowerStates": "states",
    "TwoTowers": "two_towers",
    "VisionTransformer": "vision",
    "build": "two_towers",
    "end_positions": "text",
    "layer_index": "states",
    "random_model": "initialise",
    "resize_positions": "vision",
    "wanted_layer": "states",
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
    "TextOutputs",
    "TextTower",
    "TowerStates",
    "TwoTowers",
    "ViTConfig",
    "VisionTransformer",
    "build",
    "check_activation",
    "end_positions",
    "layer_index",
    "random_model",
    "resize_positions",
    "wanted_layer",
]


__getattr__ = arriving_later(__name__, _HOMES)
