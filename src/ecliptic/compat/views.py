"""Transformers and image towers under the names and axis orders that scripts expect.

openai/CLIP clip/model.py puts tokens first (T, B, D) and has the causal mask built in; open_clip 3
transformer.py puts the batch first (B, T, D) and takes the mask as an argument.
B batch, T tokens, D width, S image side, E vector size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecliptic.compat.renamed import Renamed
from ecliptic.errors import ShapeError
from ecliptic.inputs import ImageSpec
from ecliptic.model import Block, ImageTower, ModifiedResNet, VisionTransformer

VIT_NAMES = {
    "conv1": "tower.patch",
    "class_embedding": "tower.class_token",
    "positional_embedding": "tower.positions",
    "ln_pre": "tower.ln_pre",
    "ln_post": "tower.ln_post",
    "proj": "tower.projection",
}
RESNET_NAMES = {
    **{f"conv{n + 1}": f"tower.stem.{n}.conv" for n in range(3)},
    **{f"bn{n + 1}": f"tower.stem.{n}.norm" for n in range(3)},
    **{f"layer{n + 1}": f"tower.stages.{n}" for n in range(4)},
    "attnpool": "tower.pool",
}


@dataclass(frozen=True)
class Order:
    """The calling convention of one project's transformers."""

    tokens_first: bool  # (T, B, D) in and out, else (B, T, D)
    causal_text: bool  # text attends causally without being given a mask

    def turn(self, x: Tensor) -> Tensor:
        """Convert between this order and (B, T, D), in both directions."""
        return x.transpose(0, 1) if self.tokens_first else x


OPENAI = Order(tokens_first=True, causal_text=True)
OPEN_CLIP = Order(tokens_first=False, causal_text=False)


def causal_mask(tokens: int, like: Tensor) -> Tensor:
    """(T, T) zeros with -inf above the diagonal, on the device and in the dtype of `like`."""
    mask = torch.full((tokens, tokens), float("-inf"), device=like.device, dtype=like.dtype)
    return mask.triu_(1)


def is_causal(mask: Tensor | None, tokens: int) -> bool:
    """True for the causal mask, False for none.

    Raises:
        ShapeError: it is any other mask, which these towers do not support.
    """
    if mask is None:
        return False
    if mask.shape == (tokens, tokens) and torch.equal(mask, causal_mask(tokens, mask)):
        return True
    raise ShapeError(
        f"attn_mask of shape {tuple(mask.shape)} is not the causal mask of {tokens} tokens; CLIP's "
        "towers attend either causally (pass model.attn_mask, cut to the tokens) or to all (None)."
    )


class BlockView(Renamed):
    """One residual block in the axis order of `order`."""

    def __init__(self, block: nn.Module, order: Order, *, causal: bool) -> None:
        super().__init__({name: f"block.{name}" for name in ("ln_1", "ln_2", "mlp")})
        self.block, self.order, self.causal = block, order, causal

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(T, B, D) or (B, T, D), depending on `order`, to the same shape."""
        x = self.order.turn(x)
        causal = self.causal or is_causal(attn_mask, x.shape[1])
        return self.order.turn(self.block(x, causal=causal))


class TransformerView(nn.Module):
    """All blocks of a tower, in `resblocks`."""

    def __init__(self, blocks: nn.ModuleList, width: int, order: Order, *, causal: bool) -> None:
        super().__init__()
        self.width, self.layers = width, len(blocks)
        self.resblocks = nn.ModuleList(BlockView(block, order, causal=causal) for block in blocks)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Run the blocks in order, without embedding and final norm."""
        for block in self.resblocks:
            x = block(x, attn_mask=attn_mask)
        return x

    def get_cast_dtype(self) -> torch.dtype:
        """The dtype of the weights, as in open_clip's transformer."""
        first = self.resblocks[0].block
        assert isinstance(first, Block)  # narrows the type of a ModuleList's items
        return first.mlp.up.weight.dtype


class VisualView(Renamed):
    """The image tower as `model.visual`; `tower` is the native module."""

    def __init__(self, tower: ImageTower, embed: int, order: Order) -> None:
        super().__init__(RESNET_NAMES if isinstance(tower, ModifiedResNet) else VIT_NAMES)
        self.tower = tower
        self.output_dim = embed
        self.input_resolution = tower.config.image_size  # openai/CLIP's name
        self.image_size: int | tuple[int, int] = tower.config.image_size
        if isinstance(tower, VisionTransformer):
            self.image_size = (tower.config.image_size, tower.config.image_size)
            self.patch_size = (tower.config.patch_size, tower.config.patch_size)
            self.grid_size = (tower.config.grid, tower.config.grid)
            width = tower.config.width
            self.transformer = TransformerView(tower.blocks, width, order, causal=False)

    def describe(self, spec: ImageSpec) -> None:
        """Set what open_clip's `set_model_preprocess_cfg` sets."""
        self.image_mean, self.image_std = spec.mean, spec.std
        self.preprocess_cfg = {
            "size": self.image_size,
            "mode": "RGB",
            "mean": spec.mean,
            "std": spec.std,
            "interpolation": spec.interpolation,
            "resize_mode": spec.resize,
            "fill_color": 0,
        }

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) pixels -> (B, E) raw vectors."""
        return self.tower(pixels)  # type: ignore[no-any-return]
