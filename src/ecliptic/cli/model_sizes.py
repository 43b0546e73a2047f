"""The number of parameters of a model, from its sizes alone: no torch, no weights.

D width, M MLP width, E vector size.
"""

from ecliptic.model import ClipConfig, ResNetConfig, TextConfig, ViTConfig


def parameters(config: ClipConfig) -> int:
    """The number of trained values of both towers and the temperature."""
    image, text = config.image, config.text
    count = 1  # the temperature
    if isinstance(image, ResNetConfig):
        count += _resnet(image, config.embed)
    elif image:
        count += _vit(image, config.embed)
    return count + (_text(text, config.embed) if text else 0)


def _blocks(depth: int, width: int, mlp: int) -> int:
    attention = 4 * width * width + 4 * width
    return depth * (attention + 2 * width * mlp + mlp + width + 4 * width)


def _vit(c: ViTConfig, embed: int) -> int:
    patches = 3 * c.patch_size**2 * c.width
    positions = (c.grid**2 + 2) * c.width  # grid**2 + 1 positions, and the class token
    return patches + positions + 4 * c.width + _blocks(c.depth, c.width, c.mlp) + c.width * embed


def _text(c: TextConfig, embed: int) -> int:
    tables = (c.vocabulary + c.context) * c.width
    projection = c.width * embed if c.projection else 0
    return tables + 2 * c.width + _blocks(c.depth, c.width, c.mlp) + projection


def _resnet(c: ResNetConfig, embed: int) -> int:
    half, inner = c.width // 2, c.width
    count = 9 * (3 * half + half * half + half * c.width) + 4 * half + 2 * c.width  # the stem
    for stage, depth in enumerate(c.depths):
        width = c.width * 2**stage
        outer = c.expansion * width
        if stage or inner != outer:
            count += inner * outer + 2 * outer  # shortcut of the first block
        for _ in range(depth):
            count += _resnet_block(c, inner, width)
            inner = outer
    pool = 3 * (inner * inner + inner) + inner * embed + embed + (c.grid**2 + 1) * inner
    return count + pool


def _resnet_block(c: ResNetConfig, inner: int, width: int) -> int:
    if c.block == "basic":
        return 9 * (inner + width) * width + 4 * width
    outer = c.expansion * width
    return inner * width + 9 * width * width + width * outer + 4 * width + 2 * outer
