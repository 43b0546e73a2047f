"""The two towers of CLIP. They take and return tensors only: no files, images or strings.

The sizes (`ClipConfig` and its parts) import no torch; the modules are imported when first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.model.changes import WeightState as WeightState, writes as writes
    from ecliptic.model.coded_weight import CodedWeight as CodedWeight, ordinary as ordinary
    from ecliptic.model.config import (
        Activation as Activation,
        ClipConfig as ClipConfig,
        ImageConfig as ImageConfig,
        ResNetConfig as ResNetConfig,
        TextConfig as TextConfig,
        ViTConfig as ViTConfig,
        check_activation as check_activation,
    )
    from ecliptic.model.drawing import DrawingConfig as DrawingConfig, DrawingNet as DrawingNet
    from ecliptic.model.initialise import random_model as random_model
    from ecliptic.model.layers import (
        Attention as Attention,
        Block as Block,
        LayerNorm as LayerNorm,
        QuickGELU as QuickGELU,
        activation_of as activation_of,
    )
    from ecliptic.model.quantised import (
        LARGEST_BYTE as LARGEST_BYTE,
        LARGEST_CODE as LARGEST_CODE,
        LARGEST_PAIR as LARGEST_PAIR,
        LINEARS as LINEARS,
        SAME_SPACE as SAME_SPACE,
        TENSORS as TENSORS,
        Float8Layers as Float8Layers,
        LayerError as LayerError,
        Quantisation as Quantisation,
        QuantisationReport as QuantisationReport,
        QuantisedLinear as QuantisedLinear,
        ReducedName as ReducedName,
        TowerAgreement as TowerAgreement,
        names_of_block as names_of_block,
        to_bytes as to_bytes,
    )
    from ecliptic.model.resnet import ModifiedResNet as ModifiedResNet
    from ecliptic.model.states import (
        TextOutputs as TextOutputs,
        TowerStates as TowerStates,
        layer_index as layer_index,
        wanted_layer as wanted_layer,
    )
    from ecliptic.model.text import TextTower as TextTower, end_positions as end_positions
    from ecliptic.model.two_towers import (
        ImageTower as ImageTower,
        TwoTowers as TwoTowers,
        build as build,
    )
    from ecliptic.model.vision import (
        VisionTransformer as VisionTransformer,
        resize_positions as resize_positions,
    )

__getattr__, __dir__ = lazy_names(__name__)
