"""Random initial weights, as the paper's code sets them (openai/CLIP `initialize_parameters`)."""

import math

import torch
from torch import nn

from ecliptic.model.config import ClipConfig
from ecliptic.model.layers import Block
from ecliptic.model.resnet import BasicBlock, Bottleneck, ModifiedResNet
from ecliptic.model.text import TextTower
from ecliptic.model.two_towers import TwoTowers, build
from ecliptic.model.vision import VisionTransformer


def random_model(config: ClipConfig, seed: int = 0) -> TwoTowers:
    """Build a TwoTowers in eval mode with seeded random weights, on CPU in float32."""
    model = build(config).to_empty(device="cpu")
    initialise(model, torch.Generator().manual_seed(seed))
    return model


@torch.no_grad()
def initialise(model: TwoTowers, generator: torch.Generator) -> None:
    """Fill every parameter and buffer of `model` in place."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d | nn.Conv2d | nn.Linear):
            _reset(module, generator)
    if isinstance(model.image, VisionTransformer):
        _fill_vit(model.image, generator)
    elif isinstance(model.image, ModifiedResNet):
        _fill_resnet(model.image, generator)
    if model.text is not None:
        _fill_text(model.text, generator)
    model.logit_scale.fill_(math.log(1 / 0.07))


def _reset(
    module: nn.LayerNorm | nn.BatchNorm2d | nn.Conv2d | nn.Linear, generator: torch.Generator
) -> None:
    """Set torch's own defaults, with our generator."""
    if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
        module.reset_parameters()
        return
    bound = 1 / math.sqrt(module.weight[0].numel())
    nn.init.uniform_(module.weight, -bound, bound, generator=generator)
    if module.bias is not None:
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)


def _fill_blocks(blocks: nn.ModuleList, width: int, generator: torch.Generator) -> None:
    attention, depth = width**-0.5, (2 * len(blocks)) ** -0.5
    for block in blocks:
        assert isinstance(block, Block)
        block.attention.qkv.weight.normal_(0, attention, generator=generator)
        block.attention.qkv.bias.zero_()
        block.attention.out.weight.normal_(0, attention * depth, generator=generator)
        block.attention.out.bias.zero_()
        block.mlp.up.weight.normal_(0, (2 * width) ** -0.5, generator=generator)
        block.mlp.down.weight.normal_(0, attention * depth, generator=generator)


def _fill_vit(tower: VisionTransformer, generator: torch.Generator) -> None:
    scale = tower.config.width**-0.5
    for parameter in (tower.class_token, tower.positions, tower.projection):
        parameter.normal_(0, scale, generator=generator)
    _fill_blocks(tower.blocks, tower.config.width, generator)


def _fill_resnet(tower: ModifiedResNet, generator: torch.Generator) -> None:
    scale = tower.config.features**-0.5
    pool = tower.pool
    pool.positions.normal_(0, scale, generator=generator)
    for linear in (pool.query, pool.key, pool.value, pool.out):
        linear.weight.normal_(0, scale, generator=generator)
    for module in tower.modules():
        if isinstance(module, Bottleneck):
            module.norm3.weight.zero_()  # each block starts as its shortcut only
        elif isinstance(module, BasicBlock):
            module.norm2.weight.zero_()


def _fill_text(tower: TextTower, generator: torch.Generator) -> None:
    tower.token_embedding.weight.normal_(0, 0.02, generator=generator)
    tower.positions.normal_(0, 0.01, generator=generator)
    if tower.projection is not None:
        tower.projection.normal_(0, tower.config.width**-0.5, generator=generator)
    _fill_blocks(tower.blocks, tower.config.width, generator)
