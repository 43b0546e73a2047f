"""The layers of a tower from the input up, for freezing and for rates that decay with depth.

Layer 0 holds the embeddings (patches, class token, positions and the norm after them; or tokens and
positions; or the stem of a ResNet), layers 1 to D the blocks (stages 1 to 4 of a ResNet), layer
D + 1 the final norm and the projection (the attention pool).
"""

from collections.abc import Iterator

from torch import nn

from ecliptic.errors import ConfigError
from ecliptic.model import ModifiedResNet, TextTower, VisionTransformer

AnyTower = VisionTransformer | ModifiedResNet | TextTower


def blocks_of(tower: AnyTower) -> nn.ModuleList:
    """The blocks of a transformer, the stages of a ResNet."""
    return tower.stages if isinstance(tower, ModifiedResNet) else tower.blocks


def layer_count(tower: AnyTower) -> int:
    """Layers of a tower, the embeddings and the last one included: D + 2."""
    return len(blocks_of(tower)) + 2


def layered_parameters(tower: AnyTower) -> Iterator[tuple[int, str, nn.Parameter]]:
    """The layer, the name and the value of each parameter of a tower."""
    for name, parameter in tower.named_parameters():
        yield _layer_of(name, tower), name, parameter


def frozen_modules(tower: AnyTower, frozen: int) -> list[nn.Module]:
    """Modules of the layers below `frozen`, whose batch norms must keep their statistics."""
    if frozen >= layer_count(tower):
        return [tower]
    blocks = list(blocks_of(tower))[: max(0, frozen - 1)]
    stem = [tower.stem] if isinstance(tower, ModifiedResNet) and frozen > 0 else []
    return [*stem, *blocks]


def check_frozen(tower: AnyTower, frozen: int, name: str) -> None:
    """Raise ConfigError unless the tower has more than `frozen` layers."""
    if not 0 <= frozen < layer_count(tower):
        raise ConfigError(
            f"{name}.freeze_layers = {frozen}, but this tower has {layer_count(tower)} layers (the "
            f"embeddings, {len(blocks_of(tower))} blocks, the last norm and projection); freeze "
            f'fewer, or freeze the whole tower with trains = "'
            f'{"text" if name == "image" else "image"}".'
        )


def _layer_of(name: str, tower: AnyTower) -> int:
    first, _, rest = name.partition(".")
    if first in ("blocks", "stages"):
        return int(rest.partition(".")[0]) + 1
    embeddings = ("patch", "class_token", "positions", "ln_pre", "token_embedding", "stem")
    return 0 if first in embeddings else layer_count(tower) - 1
