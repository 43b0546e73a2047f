"""The network of the drawing model: a noisy picture and a CLIP vector to the picture without noise.

Convolutions work on patches of 4 pixels, a transformer on patches of 8, whose blocks are steered by
time and vector through one shared map (adaLN-single of PixArt-alpha, Chen et al. 2023,
arXiv:2310.00426, section 2.3). It predicts the picture itself, not the noise (Li and He 2025,
arXiv:2511.13720). B batch, D width, T tokens, E vector size, S picture size.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.model.layers import Attention

_FREQUENCIES = 32  # of the time, each as a sine and a cosine
_FASTEST = 1000.0  # the shortest wave is about a thousandth of the whole time


@dataclass(frozen=True)
class DrawingConfig:
    """Sizes of the network; the defaults are those of the embedded drawing model."""

    size: int = 64  # pixels, square
    patch: int = 4  # pixels of a patch of the convolutions; the transformer's have twice as many
    width: int = 64  # channels of the convolutions
    inner: int = 256  # channels of the transformer
    depth: int = 5
    heads: int = 4
    pixel_width: int = 16  # channels of the last convolution, at full size
    vector_tokens: int = 4  # tokens that a vector becomes
    embed: int = 256  # numbers of a vector

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_count(f"drawing.{name}", value)
        if left := self.size % (2 * self.patch):
            raise ConfigError(
                f"size {self.size} leaves {left} pixels over after patches of {2 * self.patch}; "
                f"use {self.size - left} or another patch."
            )
        if self.inner % self.heads:
            raise ConfigError(f"inner {self.inner} cannot be split into {self.heads} heads.")


class DrawingNet(nn.Module):
    """Predicts the picture x0 from `x_t = (1 - t) x0 + t noise` and a CLIP vector.

    Source of the time's direction: rectified flow, Liu et al. 2022, arXiv:2209.03003.
    """

    def __init__(self, config: DrawingConfig) -> None:
        super().__init__()
        c = self.config = config
        self.time = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, c.inner), nn.SiLU(), nn.Linear(c.inner, c.inner)
        )
        self.vector = nn.Linear(c.embed, c.inner)
        self.nothing = nn.Parameter(torch.randn(c.embed) * c.embed**-0.5)  # in place of a vector
        self.tokens = nn.Linear(c.embed, c.vector_tokens * c.inner)
        self.shared = nn.Linear(c.inner, 6 * c.inner)
        grid = c.size // c.patch
        self.stem = nn.Conv2d(3 * c.patch**2, c.width, 3, padding=1)
        self.down = nn.ModuleList(SteeredConv(c.width, c.width, c.inner) for _ in range(2))
        self.enter = nn.Conv2d(c.width, c.inner, 2, stride=2)
        self.positions = nn.Parameter(torch.randn((grid // 2) ** 2, c.inner) * 0.02)
        self.blocks = nn.ModuleList(SteeredBlock(c.inner, c.heads) for _ in range(c.depth))
        self.leave = nn.Linear(c.inner, 4 * c.width)
        self.up = nn.ModuleList(
            SteeredConv(inner, c.width, c.inner) for inner in (2 * c.width, c.width)
        )
        self.norm = nn.GroupNorm(1, c.width)
        self.spread = nn.Conv2d(c.width, c.pixel_width * c.patch**2, 1)
        self.last = nn.Conv2d(c.pixel_width, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, vectors: Tensor, known: Tensor) -> Tensor:
        """The picture without noise.

        Args:
            x: (B, 3, S, S), values -1..1 with noise.
            t: (B,) from 0, no noise, to 1, noise alone.
            vectors: (B, E) of unit length.
            known: (B,) bool; False: the vector is not used.

        Returns:
            (B, 3, S, S), about -1..1.

        Raises:
            ShapeError: the pictures have another size, or the vectors another length.
        """
        c = self.config
        if x.shape[1:] != (3, c.size, c.size) or vectors.shape != (len(x), c.embed):
            raise ShapeError(
                f"pictures {tuple(x.shape)} and vectors {tuple(vectors.shape)} do not fit: wanted "
                f"are (B, 3, {c.size}, {c.size}) and (B, {c.embed})."
            )
        vectors = torch.where(known[:, None], vectors * c.embed**0.5, self.nothing * c.embed**0.5)
        state = F.silu(self.time(encode_time(t)) + self.vector(vectors))  # (B, D)
        x = self.stem(F.pixel_unshuffle(x, c.patch))
        for conv in self.down:
            x = conv(x, state)
        skipped = x
        x = self._attend(self.enter(x), state, vectors)
        x = torch.cat([F.pixel_shuffle(x, 2), skipped], dim=1)
        for conv in self.up:
            x = conv(x, state)
        x = F.silu(F.pixel_shuffle(self.spread(F.silu(self.norm(x))), c.patch))
        return self.last(x)  # type: ignore[no-any-return]

    def _attend(self, x: Tensor, state: Tensor, vectors: Tensor) -> Tensor:
        """The transformer over all patches: (B, D, G, G) -> (B, 4 W, G, G)."""
        B, D, G, _ = x.shape
        picture = x.flatten(2).mT + self.positions  # (B, G*G, D)
        x = torch.cat([self.tokens(vectors).view(B, -1, D), picture], dim=1)
        shared = self.shared(state).view(B, 6, D)
        for block in self.blocks:
            x = block(x, shared)
        x = self.leave(F.layer_norm(x[:, -G * G :], (D,)))
        return x.mT.reshape(B, -1, G, G)


class SteeredConv(nn.Module):
    """Two convolutions with a shortcut; time and vector scale and shift what is between them."""

    def __init__(self, inner: int, outer: int, state: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, inner), nn.GroupNorm(1, outer, affine=False)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.steer = nn.Linear(state, 2 * outer)
        self.shortcut = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """(B, C, H, W) and (B, D) -> (B, C', H, W)."""
        scale, shift = self.steer(state)[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        return self.shortcut(x) + y  # type: ignore[no-any-return]


class SteeredBlock(nn.Module):
    """Attention and MLP, scaled, shifted and gated by time and vector."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        self.own = nn.Parameter(torch.zeros(6, width))  # this block's share of the steering

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """(B, T, D) and (B, 6, D) -> (B, T, D)."""
        D = x.shape[-1]
        shift1, scale1, gate1, shift2, scale2, gate2 = (shared + self.own)[:, None].unbind(2)
        x = x + gate1 * self.attention(F.layer_norm(x, (D,)) * (1 + scale1) + shift1)
        change: Tensor = self.mlp(F.layer_norm(x, (D,)) * (1 + scale2) + shift2)
        return x + gate2 * change


def encode_time(t: Tensor) -> Tensor:
    """Sines and cosines of the time, from slow to quick: (B,) -> (B, 2 F)."""
    steps = torch.arange(_FREQUENCIES, device=t.device, dtype=t.dtype) / (_FREQUENCIES - 1)
    angles = t[:, None] * (math.pi * torch.exp(steps * math.log(_FASTEST)))
    return torch.cat([angles.sin(), angles.cos()], dim=1)
