"""Sizes of the towers, as dataclasses; imports no torch, so that commands read them quickly.

Widths, depths, heads and MLP widths follow open_clip's model_configs. The shapes of the weights
tell neither the head count nor the activation, so both are always given here.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from ecliptic.errors import ConfigError

Activation = Literal["quick_gelu", "gelu"]
ResNetBlock = Literal["bottleneck", "basic"]

MAX_SIZE = 1 << 20  # of every edge, width and count; far above any model, far below overflow
MAX_DEPTH = 256  # blocks; the deepest released tower has 48


def _check_sizes(at_most: int = MAX_SIZE, **sizes: int) -> None:
    for name, size in sizes.items():
        if type(size) is not int or not 1 <= size <= at_most:
            raise ConfigError(f"{name} must be a whole number of 1 to {at_most}, got {size!r}.")


def _check_heads(width: int, heads: int) -> None:
    _check_sizes(heads=heads)
    if width % heads:
        raise ConfigError(
            f"width {width} does not split into {heads} heads; heads must divide the width."
        )


def check_activation(activation: str) -> None:
    """Raise ConfigError unless the towers know `activation`."""
    if activation not in get_args(Activation):
        known = " or ".join(map(repr, get_args(Activation)))
        raise ConfigError(f"unknown activation {activation!r}; use {known}.")


def _check_transformer(config: "ViTConfig | TextConfig", **sizes: int) -> None:
    _check_sizes(**sizes, width=config.width, mlp=config.mlp)
    _check_sizes(MAX_DEPTH, depth=config.depth)
    _check_heads(config.width, config.heads)
    check_activation(config.activation)
    eps = config.eps
    if not isinstance(eps, int | float) or not 0 < eps < 1:  # false for NaN too
        raise ConfigError(f"eps of the norms must be a number between 0 and 1, got {eps!r}.")


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a vision transformer; the defaults are ViT-B/32."""

    image_size: int = 224  # pixels, square
    patch_size: int = 32  # pixels
    width: int = 768
    depth: int = 12  # blocks
    heads: int = 12
    mlp: int = 3072  # width of the hidden layer of each block's MLP
    activation: Activation = "gelu"
    eps: float = 1e-5  # of every LayerNorm

    def __post_init__(self) -> None:
        _check_transformer(self, image_size=self.image_size, patch_size=self.patch_size)
        if self.image_size < self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} is smaller than one patch of {self.patch_size}."
            )
        if left := self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} leaves {left} pixels over after patches of "
                f"{self.patch_size}; use {self.image_size - left} or another patch_size."
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of CLIP's modified ResNet; the defaults are RN50.

    Its activation is always ReLU. The attention pool has `width * 32 // 64` heads in every
    released model (openai/CLIP clip/model.py), so only other models need `heads`. All of them have
    bottlenecks; basic blocks are faster on CPUs in small models (He et al. 2015, arXiv:1512.03385,
    figure 5, left).
    """

    image_size: int = 224  # pixels, square, a multiple of 32
    width: int = 64  # channels after the stem
    depths: tuple[int, int, int, int] = (3, 4, 6, 3)  # blocks per stage
    heads: int = 32  # of the attention pool
    block: ResNetBlock = "bottleneck"  # or "basic": no 1x1 convolutions, fast on CPUs

    def __post_init__(self) -> None:
        _check_sizes(image_size=self.image_size, width=self.width)
        if not isinstance(self.depths, tuple) or len(self.depths) != 4:
            raise ConfigError(f"depths must be four numbers, one per stage, got {self.depths!r}.")
        for stage, depth in enumerate(self.depths):
            _check_sizes(MAX_DEPTH, **{f"depths[{stage}]": depth})
        if self.block not in get_args(ResNetBlock):
            known = " or ".join(map(repr, get_args(ResNetBlock)))
            raise ConfigError(f"unknown block {self.block!r} of a ResNet; use {known}.")
        _check_heads(self.features, self.heads)
        if left := self.image_size % 32:
            raise ConfigError(
                f"image_size {self.image_size} leaves {left} pixels over after the 32-fold "
                f"reduction of a ResNet; use {self.image_size - left}."
            )

    @property
    def features(self) -> int:
        """Channels that enter the attention pool."""
        return self.width * 8 * self.expansion

    @property
    def expansion(self) -> int:
        """Channels that leave a block, for each channel of its 3x3 convolution."""
        return 4 if self.block == "bottleneck" else 1

    @property
    def grid(self) -> int:
        """Positions along one side that enter the attention pool."""
        return self.image_size // 32


ImageConfig = ViTConfig | ResNetConfig


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the causal text transformer; the defaults are those of ViT-B/32."""

    vocabulary: int = 49408
    context: int = 77  # tokens
    width: int = 512
    depth: int = 12
    heads: int = 8
    mlp: int = 2048
    activation: Activation = "gelu"
    eps: float = 1e-5
    end_of_text: int = 49407  # id of the token whose first place is pooled
    projection: bool = True  # False: text encoders of SD 1 and FLUX, which have none

    def __post_init__(self) -> None:
        _check_transformer(self, vocabulary=self.vocabulary, context=self.context)
        if type(self.end_of_text) is not int or not 0 <= self.end_of_text < self.vocabulary:
            raise ConfigError(
                f"end_of_text {self.end_of_text} is outside the vocabulary of "
                f"{self.vocabulary} tokens."
            )


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of the two towers and of their shared space; the defaults are ViT-B/32."""

    embed: int = 512  # E, values in a vector
    image: ImageConfig | None = field(default_factory=ViTConfig)
    text: TextConfig | None = field(default_factory=TextConfig)

    def __post_init__(self) -> None:
        _check_sizes(embed=self.embed)
        if self.image is None and self.text is None:
            raise ConfigError("a model needs an image tower, a text tower, or both.")
        if self.text and not self.text.projection and self.text.width != self.embed:
            raise ConfigError(
                f"a text tower without projection gives vectors of its width {self.text.width}, "
                f"but embed is {self.embed}; set embed to {self.text.width}."
            )
