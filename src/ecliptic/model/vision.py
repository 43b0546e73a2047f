"""The vision transformer: pixels in, vectors out.

openai/CLIP clip/model.py `VisionTransformer`: patches, class token, a norm before the blocks,
and the class token through the last norm and the projection.
B batch, T tokens (class token first), D width, G grid, E vector size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ShapeError
from ecliptic.model.config import ViTConfig
from ecliptic.model.layers import Block, LayerNorm
from ecliptic.model.states import TowerStates, layer_index, run_blocks


def check_pixels(pixels: Tensor, size: int) -> None:
    """Raise ShapeError unless `pixels` is (B, 3, size, size)."""
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, size, size):
        raise ShapeError(
            f"pixels must be (batch, 3, {size}, {size}), got {tuple(pixels.shape)}; "
            f"`clip.preprocess(image)` gives the right shape, and `load(..., image_size=N)` "
            "interpolates the position embeddings for another size."
        )


class VisionTransformer(nn.Module):
    """Patches, blocks, and the class token's projection."""

    def __init__(self, config: ViTConfig, embed: int) -> None:
        super().__init__()
        self.config = config
        c = config
        self.patch = nn.Conv2d(3, c.width, c.patch_size, stride=c.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.empty(c.width))
        self.positions = nn.Parameter(torch.empty(1 + c.grid**2, c.width))
        self.ln_pre = LayerNorm(c.width, eps=c.eps)
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, c.mlp, c.activation, c.eps) for _ in range(c.depth)
        )
        self.ln_post = LayerNorm(c.width, eps=c.eps)
        self.projection = nn.Parameter(torch.empty(c.width, embed))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) raw vectors."""
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.projection  # type: ignore[no-any-return]

    def sequence(self, pixels: Tensor, *, layer: int = -1, final_norm: bool = True) -> Tensor:
        """(B, T, D) hidden layer `layer`, class token first; `final_norm` applies ln_post."""
        x = self.embed(pixels)
        for block in self.blocks[: layer_index(layer, self.config.depth)]:
            x = block(x)
        return self.ln_post(x) if final_norm else x

    def patches(self, pixels: Tensor, *, layer: int = -1, project: bool = False) -> Tensor:
        """(B, G, G, D) normed patch features of `layer`, or (B, G, G, E) with `project`."""
        x = self.sequence(pixels, layer=layer)[:, 1:]
        x = x @ self.projection if project else x
        return x.reshape(len(x), self.config.grid, self.config.grid, -1)

    def states(self, pixels: Tensor, *, look: bool = False) -> TowerStates:
        """Every hidden layer, the pooled state and the vectors; attention weights if `look`."""
        hidden, attention = run_blocks(self.blocks, self.embed(pixels), causal=False, look=look)
        last = self.ln_post(hidden[-1])
        pooled = last[:, 0]
        return TowerStates(hidden, attention, last, pooled, pooled @ self.projection)

    def embed(self, pixels: Tensor, embedded: Tensor | None = None) -> Tensor:
        """(B, 3, S, S) -> (B, T, D), the input of the first block (after ln_pre).

        `embedded`, (B, G*G, D), replaces the convolution.
        """
        check_pixels(pixels, self.config.image_size)
        x = self.patch(pixels).flatten(2).transpose(1, 2) if embedded is None else embedded
        # not len(x), a constant to torch.export, which would fix the batch
        first = self.class_token.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([first, x], dim=1) + self.positions.to(x.dtype)
        return self.ln_pre(x)  # type: ignore[no-any-return]


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Resize position embeddings (1 + g*g, D) to another grid: (1 + grid*grid, D).

    The class token's row is kept; the rest is resized as an image, bicubic and antialiased
    (open_clip `resize_pos_embed`). OpenAI started its 336-pixel model from bilinear ones.

    Raises:
        ShapeError: the rows do not form one class token and a square grid.
    """
    old = round((len(positions) - 1) ** 0.5)
    if old * old + 1 != len(positions):
        raise ShapeError(
            f"{len(positions)} position embeddings are not one class token and a square grid, "
            "so they cannot be interpolated; load the model at its trained size."
        )
    if old == grid:
        return positions
    first, rest = positions[:1], positions[1:].float()
    rest = rest.T.reshape(1, -1, old, old)  # (1, D, g, g)
    rest = F.interpolate(rest, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([first, rest.flatten(2)[0].T.to(positions.dtype)])
