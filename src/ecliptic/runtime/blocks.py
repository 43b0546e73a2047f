"""Transformer blocks for inference: the same numbers with less work.

Every function takes the forms of the blocks (`kernels`), which compute norms and linear layers.
Two savings here, both exact up to rounding: the last block is computed only for the tokens that
are pooled, and texts of different length are packed without padding.
B batch, T tokens, D width, H heads, N tokens of all rows without padding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.runtime.kernels.plain import BlockForm

_WORTH_PACKING = 0.95  # share of tokens in use; above it, packing costs as much as it saves


def run(
    blocks: Sequence[BlockForm],
    x: Tensor,
    pooled: Tensor,
    *,
    causal: bool,
    mask: Tensor | None = None,
) -> Tensor:
    """Run `blocks` on (B, T, D), the last one only for token `pooled[b]` of row b: (B, D)."""
    *most, last = blocks
    x = run_all(most, x, causal=causal, mask=mask)
    return _run_block_at(last, x, pooled, causal=causal, mask=mask)


def run_all(
    blocks: Sequence[BlockForm], x: Tensor, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Run `blocks` on every token of (B, T, D); `x` is not changed."""
    for block in blocks:
        q, k, v = _split(block.qkv(block.norm(x)), 3, block.heads)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal and mask is None
        )
        x = block.mlp(block.out(y.transpose(1, 2).flatten(2), x))
    return x


def run_packed(blocks: Sequence[BlockForm], x: Tensor, pooled: Tensor) -> Tensor:
    """As causal `run`, without computing the tokens after `pooled[b]`; overwrites `x`.

    Norms and matmuls run on the N tokens in use, packed without padding; only attention, a small
    part of the work, runs on padded rows.
    """
    B, T, D = x.shape
    used = torch.arange(T, device=x.device) <= pooled[:, None]  # (B, T)
    places = used.flatten().nonzero()[:, 0]  # (N,)
    if len(places) > _WORTH_PACKING * B * T:
        return run(blocks, x, pooled, causal=True)
    *most, last = blocks
    rows = x.flatten(0, 1)
    packed = rows[places]  # (N, D)
    buffer = x.new_zeros(B * T, 3 * D)  # zeros where there is no token: NaN there would spread
    for block in most:
        buffer[places] = block.qkv(block.norm(packed))
        q, k, v = _split(buffer.view(B, T, 3 * D), 3, block.heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).reshape(B * T, D)[places]  # (N, D)
        packed = block.mlp(block.out(y, packed))
    rows.zero_()[places] = packed
    return _run_block_at(last, x, pooled, causal=True, mask=None)


def _run_block_at(
    block: BlockForm, x: Tensor, pooled: Tensor, *, causal: bool, mask: Tensor | None
) -> Tensor:
    """Run a block on (B, T, D), only for token `pooled[b]` of row b: (B, D)."""
    rows, seen = torch.arange(len(x), device=x.device), None
    if mask is not None:
        seen = mask[rows, 0, pooled]  # (B, T), added to the scores
    elif causal:
        seen = torch.arange(x.shape[1], device=x.device) <= pooled[:, None]  # (B, T)
    normed = block.norm(x)
    (q,) = _split(block.query(normed[rows, pooled])[:, None], 1, block.heads)
    k, v = _split(block.key_value(normed), 2, block.heads)
    allowed = None if seen is None else seen[:, None, None]
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)  # (B, H, 1, D/H)
    return block.mlp(block.out(y.flatten(1), x[rows, pooled]))


def _split(x: Tensor, parts: int, heads: int) -> Tensor:
    """(B, T, parts * D) -> (parts, B, H, T, D/H)."""
    B, T, width = x.shape
    return x.view(B, T, parts, heads, width // parts // heads).permute(2, 0, 3, 1, 4)
