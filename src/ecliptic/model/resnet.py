"""CLIP's modified ResNet: a three-convolution stem, antialiased strides, attention pooling.

openai/CLIP clip/model.py `ModifiedResNet`. Batch norms make this tower depend on its mode:
`load` returns it in eval mode. B batch, C channels, F features, G grid, E vector size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model.config import ResNetConfig
from ecliptic.model.states import TowerStates, layer_index
from ecliptic.model.vision import check_pixels


class ConvNorm(nn.Module):
    """A bias-free convolution and its batch norm."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H/stride, W/stride)."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, pool, 1x1, and a shortcut; strides are average pools, never convolutions."""

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inner, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        wider = stride > 1 or inner != 4 * width
        self.shortcut = ConvNorm(inner, 4 * width, 1) if wider else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 width, H/stride, W/stride)."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(F.avg_pool2d(y, self.stride) if self.stride > 1 else y))
        if self.shortcut is not None:
            x = self.shortcut(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        return F.relu(x + y)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first one with the stride, and a shortcut, averaged if strided.

    He et al. 2015, arXiv:1512.03385, figure 5 left; He et al. 2019, arXiv:1812.01187, ResNet-D.
    """

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(inner, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        wider = stride > 1 or inner != width
        self.shortcut = ConvNorm(inner, width, 1) if wider else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width, H/stride, W/stride)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.shortcut is not None:
            x = self.shortcut(F.avg_pool2d(x, self.stride) if self.stride > 1 else x)
        return F.relu(x + y)


class AttentionPool(nn.Module):
    """One query, the mean of all positions, attends over the positions and itself."""

    def __init__(self, features: int, heads: int, grid: int, embed: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.empty(grid**2 + 1, features))
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, embed)

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, G, G) -> (B, E)."""
        x = self.tokens(x)
        q = self._split(self.query(x[:, :1]))
        y = F.scaled_dot_product_attention(q, self._split(self.key(x)), self._split(self.value(x)))
        return self.out(y.transpose(1, 2).flatten(1))  # type: ignore[no-any-return]

    def weights(self, x: Tensor) -> Tensor:
        """(B, F, G, G) -> (B, H, 1, G*G + 1), attention of the mean to itself and each place."""
        x = self.tokens(x)
        q, k = self._split(self.query(x[:, :1])), self._split(self.key(x))
        scores: Tensor = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        return scores.softmax(dim=-1)

    def tokens(self, x: Tensor) -> Tensor:
        """(B, F, G, G) -> (B, 1 + G*G, F), the mean first, positions added."""
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        return x + self.positions.to(x.dtype)

    def _split(self, x: Tensor) -> Tensor:
        B, T, D = x.shape
        return x.view(B, T, self.heads, D // self.heads).transpose(1, 2)  # (B, H, T, F/H)


class ModifiedResNet(nn.Module):
    """Stem, four stages of bottlenecks or basic blocks, attention pool."""

    def __init__(self, config: ResNetConfig, embed: int) -> None:
        super().__init__()
        self.config = config
        width, half = config.width, config.width // 2
        self.stem = nn.ModuleList(
            [ConvNorm(3, half, 3, stride=2), ConvNorm(half, half, 3), ConvNorm(half, width, 3)]
        )
        self.stages = nn.ModuleList()
        block = Bottleneck if config.block == "bottleneck" else BasicBlock
        inner = width
        for stage, depth in enumerate(config.depths):
            outer, stride = width * 2**stage, 1 if stage == 0 else 2
            blocks = [block(inner, outer, stride)]
            inner = config.expansion * outer
            blocks += [block(inner, outer, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.pool = AttentionPool(config.features, config.heads, config.grid, embed)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) raw vectors."""
        return self.pool(self.feature_map(pixels))  # type: ignore[no-any-return]

    def feature_map(self, pixels: Tensor, *, layer: int = -1) -> Tensor:
        """(B, C, H, W) after stage `layer` (0 is the stem, -1 the last stage)."""
        check_pixels(pixels, self.config.image_size)
        x = pixels
        for conv in self.stem:
            x = F.relu(conv(x))
        x = F.avg_pool2d(x, 2)
        for stage in self.stages[: layer_index(layer, len(self.stages))]:
            x = stage(x)
        return x

    def patches(self, pixels: Tensor, *, layer: int = -1, project: bool = False) -> Tensor:
        """(B, G, G, C) features of each place; `project` maps them into the joint space (E).

        Each place goes alone through the pool's value and output maps, as in dense uses of CLIP
        (Zhou et al. 2022, MaskCLIP, arXiv:2112.01071, section 3.2).
        """
        x = self.feature_map(pixels, layer=-1 if project else layer)
        if not project:
            return x.permute(0, 2, 3, 1)
        y: Tensor = self.pool.out(self.pool.value(self.pool.tokens(x)[:, 1:]))
        return y.reshape(len(x), self.config.grid, self.config.grid, -1)

    def states(self, pixels: Tensor, *, look: bool = False) -> TowerStates:
        """Stage outputs as `hidden` (B, C, H, W); `last` has the pooled tokens (B, T, F).

        `pooled` equals `vectors`: the pool's output map is the projection.
        """
        hidden = [self.feature_map(pixels, layer=0)]
        for stage in self.stages:
            hidden.append(stage(hidden[-1]))
        attention = (self.pool.weights(hidden[-1]),) if look else ()
        vectors = self.pool(hidden[-1])
        return TowerStates(tuple(hidden), attention, self.pool.tokens(hidden[-1]), vectors, vectors)
