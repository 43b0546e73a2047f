"""CLIP's modified ResNet with the names of the originals.

openai/CLIP clip/model.py and open_clip/modified_resnet.py, which call the activations `relu1` and
`act1`. B batch, C channels, F features, G grid, E vector size.
"""

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.compat.parts import add_positions, empty_parameter
from ecliptic.model import ResNetConfig

ReluName = Literal["relu", "act"]


class Bottleneck(nn.Module):
    """1x1, 3x3, pool, 1x1, and a shortcut called `downsample`."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, relu: ReluName) -> None:
        super().__init__()
        outer = planes * self.expansion
        self.stride, self._relu = stride, relu
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.add_module(f"{relu}1", nn.ReLU(inplace=True))
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.add_module(f"{relu}2", nn.ReLU(inplace=True))
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer)
        self.add_module(f"{relu}3", nn.ReLU(inplace=True))
        self.downsample = _make_downsample(inplanes, outer, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 planes, H/stride, W/stride)."""
        y = relu(self, 1, self.bn1(self.conv1(x)))
        y = self.avgpool(relu(self, 2, self.bn2(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return relu(self, 3, y + (x if self.downsample is None else self.downsample(x)))


class BasicBlock(nn.Module):
    """Two 3x3 and a shortcut, named like a bottleneck; the originals have no such block."""

    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int, relu: ReluName) -> None:
        super().__init__()
        self.stride, self._relu = stride, relu
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.add_module(f"{relu}1", nn.ReLU(inplace=True))
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.add_module(f"{relu}2", nn.ReLU(inplace=True))
        self.downsample = _make_downsample(inplanes, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, planes, H/stride, W/stride)."""
        y = self.bn2(self.conv2(relu(self, 1, self.bn1(self.conv1(x)))))
        return relu(self, 2, y + (x if self.downsample is None else self.downsample(x)))


def _make_downsample(inner: int, outer: int, stride: int) -> nn.Module | None:
    if stride == 1 and inner == outer:
        return None
    conv = nn.Conv2d(inner, outer, 1, bias=False)
    steps = {"-1": nn.AvgPool2d(stride), "0": conv, "1": nn.BatchNorm2d(outer)}
    return nn.Sequential(OrderedDict(steps))


class AttentionPool2d(nn.Module):
    """The mean of all places attends over the places and itself."""

    def __init__(self, grid: int, features: int, heads: int, output_dim: int) -> None:
        super().__init__()
        self.positional_embedding = empty_parameter(grid**2 + 1, features)
        self.k_proj = nn.Linear(features, features)
        self.q_proj = nn.Linear(features, features)
        self.v_proj = nn.Linear(features, features)
        self.c_proj = nn.Linear(features, output_dim)
        self.num_heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, G, G) -> (B, E)."""
        x = x.flatten(2).permute(0, 2, 1)  # (B, G*G, F)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = add_positions(x, self.positional_embedding)
        q, k, v = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, H, T, F/H)
            for part in (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        )
        pooled = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.c_proj(pooled)[:, 0]  # type: ignore[no-any-return]


class ModifiedResNet(nn.Module):
    """Stem, four layers of bottlenecks or basic blocks, attention pool."""

    def __init__(self, sizes: ResNetConfig, output_dim: int, relu: ReluName) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.input_resolution = self.image_size = sizes.image_size
        self._relu = relu
        half = sizes.width // 2
        shapes = ((3, half, 2), (half, half, 1), (half, sizes.width, 1))
        for n, (inner, outer, stride) in enumerate(shapes, start=1):
            conv = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
            self.add_module(f"conv{n}", conv)
            self.add_module(f"bn{n}", nn.BatchNorm2d(outer))
            self.add_module(f"{relu}{n}", nn.ReLU(inplace=True))
        self.avgpool = nn.AvgPool2d(2)
        block = Bottleneck if sizes.block == "bottleneck" else BasicBlock
        inner = sizes.width
        for n, depth in enumerate(sizes.depths):
            planes, stride = sizes.width * 2**n, 1 if n == 0 else 2
            wide = planes * block.expansion
            blocks = [block(inner, planes, stride, relu)]
            blocks += [block(wide, planes, 1, relu) for _ in range(depth - 1)]
            self.add_module(f"layer{n + 1}", nn.Sequential(*blocks))
            inner = wide
        self.attnpool = AttentionPool2d(sizes.grid, sizes.features, sizes.heads, output_dim)

    def stem(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C, S/4, S/4)."""
        for n in (1, 2, 3):
            conv, norm = self.get_submodule(f"conv{n}"), self.get_submodule(f"bn{n}")
            x = relu(self, n, norm(conv(x)))
        return self.avgpool(x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) raw vectors."""
        x = self.stem(x.type(self.get_submodule("conv1").weight.dtype))  # type: ignore[arg-type]
        for n in range(1, 5):
            x = self.get_submodule(f"layer{n}")(x)
        return self.attnpool(x)  # type: ignore[no-any-return]


def relu(module: Bottleneck | BasicBlock | ModifiedResNet, n: int, x: Tensor) -> Tensor:
    """Run the activation `n` of `module`, under the name that its project gives it."""
    return module.get_submodule(f"{module._relu}{n}")(x)  # type: ignore[no-any-return]
