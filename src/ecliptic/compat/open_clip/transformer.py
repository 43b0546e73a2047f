"""open_clip's transformer.py: blocks and the vision transformer; the batch is first.

B batch, T tokens, D width, E vector size, S image side.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ecliptic.compat.freezing import Part, freeze_but_last
from ecliptic.compat.parts import (
    Fixed,
    TransformerConfig,
    embed_patches,
    empty_parameter,
    make_mlp,
)
from ecliptic.errors import ConfigError
from ecliptic.model import LayerNorm, QuickGELU, ViTConfig

__all__ = ["LayerNorm", "QuickGELU", "ResidualAttentionBlock", "Transformer", "VisionTransformer"]


class ResidualAttentionBlock(nn.Module):
    """Attention, then MLP, each behind a norm and a shortcut."""

    def __init__(self, sizes: TransformerConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(sizes.width, eps=sizes.eps)
        self.attn = nn.MultiheadAttention(sizes.width, sizes.heads, batch_first=True)
        self.ls_1 = nn.Identity()
        self.ln_2 = LayerNorm(sizes.width, eps=sizes.eps)
        self.mlp = make_mlp(sizes)
        self.ls_2 = nn.Identity()

    def get_weight_dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        dtype: torch.dtype = self.mlp.c_fc.weight.dtype  # type: ignore[assignment, union-attr]
        return dtype

    def attention(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) queries, and keys and values if they differ -> (B, T, D)."""
        k_x, v_x = q_x if k_x is None else k_x, q_x if v_x is None else v_x
        mask = None if attn_mask is None else attn_mask.to(q_x.dtype)
        attended: Tensor = self.attn(q_x, k_x, v_x, need_weights=False, attn_mask=mask)[0]
        return attended

    def forward(
        self,
        q_x: Tensor,
        k_x: Tensor | None = None,
        v_x: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = q_x + self.ls_1(self.attention(self.ln_1(q_x), k_x, v_x, attn_mask))
        return x + self.ls_2(self.mlp(self.ln_2(x)))  # type: ignore[no-any-return]


class Transformer(Fixed):
    """All blocks of a tower, in `resblocks`."""

    fixed: ClassVar[Mapping[str, Any]] = {"batch_first": True}

    def __init__(self, sizes: TransformerConfig) -> None:
        super().__init__()
        self.width, self.layers, self.batch_first = sizes.width, sizes.depth, True
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(sizes) for _ in range(sizes.depth))

    def get_cast_dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.resblocks[0].get_weight_dtype()  # type: ignore[operator, no-any-return]

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        for block in self.resblocks:
            if self.grad_checkpointing:
                x = checkpoint(block, x, None, None, attn_mask, use_reentrant=False)
            else:
                x = block(x, attn_mask=attn_mask)
        return x


class VisionTransformer(Fixed):
    """Patches, blocks, and a projection of the pooled tokens."""

    fixed: ClassVar[Mapping[str, Any]] = {"attn_pool": None, "final_ln_after_pool": False}

    def __init__(self, sizes: ViTConfig, output_dim: int) -> None:
        super().__init__()
        width, patch = sizes.width, sizes.patch_size
        self.output_tokens, self.pool_type = False, "tok"
        self.attn_pool, self.final_ln_after_pool = None, False
        self.image_size, self.patch_size = (sizes.image_size,) * 2, (patch, patch)
        self.grid_size, self.output_dim = (sizes.grid, sizes.grid), output_dim
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = empty_parameter(width)
        self.positional_embedding = empty_parameter(sizes.grid**2 + 1, width)
        self.patch_dropout = nn.Identity()
        self.ln_pre = LayerNorm(width, eps=sizes.eps)
        self.transformer = Transformer(sizes)
        self.ln_post = LayerNorm(width, eps=sizes.eps)
        self.proj: nn.Parameter | None = empty_parameter(width, output_dim)

    def lock(self, unlocked_groups: int = 0, freeze_bn_stats: bool = False) -> None:  # noqa: ARG002
        """Freeze all but the last groups: the stem, one per block, the projection."""
        blocks = list(self.transformer.resblocks)
        stem: list[Part] = [
            self.conv1,
            self.class_embedding,
            self.positional_embedding,
            self.ln_pre,
        ]
        last: list[Part] = [*blocks[-1:], self.ln_post]
        freeze_but_last(
            [stem, *([block] for block in blocks[:-1]), last, [self.proj]], unlocked_groups
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the blocks in the backward pass, to save memory."""
        self.transformer.grad_checkpointing = enable

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, 3, S, S) pixels -> (B, E) raw vectors, or (B, D) if `proj` is None.

        With `output_tokens`, also the (B, T - 1, D) normed patch tokens.
        """
        x = self.ln_pre(self.patch_dropout(embed_patches(self, x)))
        pooled, tokens = self._pool(self.ln_post(self.transformer(x)))
        if self.proj is not None:
            pooled = pooled @ self.proj
        return (pooled, tokens) if self.output_tokens else pooled

    def _pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled vector, and the tokens beside it."""
        if self.pool_type == "tok":
            return x[:, 0], x[:, 1:]
        if self.pool_type == "avg":
            return x[:, 1:].mean(dim=1), x[:, 1:]
        if self.pool_type == "none":
            return x, x
        raise ConfigError(f"pool_type must be 'tok', 'avg' or 'none', not {self.pool_type!r}.")
