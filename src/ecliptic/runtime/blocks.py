"""Transformer blocks for inference: the same numbers with less work.

Nothing here is trained or stored; every function takes the model's own modules. Four savings, all
exact up to rounding: the last block is computed only for the tokens that are pooled, texts of
different length are packed without padding, QuickGELU is one pass over memory (silu(1.702 x) /
1.702, its factors absorbed by the matmuls around it), and residual sums are made in place.
B batch, T tokens, D width, H heads, N tokens of all rows without padding.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model import Attention, Block, QuickGELU

_SLOPE = 1.702  # of QuickGELU
_WORTH_PACKING = 0.95  # share of tokens in use; above it, packing costs as much as it saves


def run(
    blocks: Iterable[nn.Module],
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
    blocks: Iterable[nn.Module], x: Tensor, *, causal: bool, mask: Tensor | None = None
) -> Tensor:
    """Run `blocks` on every token of (B, T, D); `x` is not changed."""
    for block in blocks:
        assert isinstance(block, Block)  # narrows the type
        x = block.attention(block.ln_1(x), causal=causal, mask=mask).add_(x)
        x = _apply_mlp(block, block.ln_2(x)).add_(x)
    return x


def run_packed(blocks: Iterable[nn.Module], x: Tensor, pooled: Tensor) -> Tensor:
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
        packed = _run_packed_block(block, packed, places, buffer.view(B, T, 3 * D))
    rows.zero_()[places] = packed
    return _run_block_at(last, x, pooled, causal=True, mask=None)


def _run_packed_block(block: nn.Module, x: Tensor, places: Tensor, buffer: Tensor) -> Tensor:
    """Run a causal block on (N, D); `buffer` (B, T, 3 D) gets its qkv at `places` of the rows."""
    assert isinstance(block, Block)
    attention, (B, T, _), H = block.attention, buffer.shape, block.attention.heads
    buffer.flatten(0, 1)[places] = attention.qkv(block.ln_1(x))
    q, k, v = buffer.view(B, T, 3, H, -1).permute(2, 0, 3, 1, 4)  # each (B, H, T, D/H)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    y = y.transpose(1, 2).reshape(B * T, -1)[places]  # (N, D)
    x = attention.out(y).add_(x)
    return _apply_mlp(block, block.ln_2(x)).add_(x)


def _run_block_at(
    block: nn.Module, x: Tensor, pooled: Tensor, *, causal: bool, mask: Tensor | None
) -> Tensor:
    """Run a block on (B, T, D), only for token `pooled[b]` of row b: (B, D)."""
    assert isinstance(block, Block)
    rows, seen = torch.arange(len(x), device=x.device), None
    if mask is not None:
        seen = mask[rows, 0, pooled]  # (B, T), added to the scores
    elif causal:
        seen = torch.arange(x.shape[1], device=x.device) <= pooled[:, None]  # (B, T)
    y = _attend_at(block.attention, block.ln_1(x), pooled, seen)
    y = y.add_(x[rows, pooled])
    return _apply_mlp(block, block.ln_2(y)).add_(y)


def _attend_at(attention: Attention, x: Tensor, pooled: Tensor, seen: Tensor | None) -> Tensor:
    """Attend with one query per row to the keys that `seen` (B, T) allows: (B, D)."""
    B, T, D = x.shape
    H, rows = attention.heads, torch.arange(B, device=x.device)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    q = F.linear(x[rows, pooled], weight[:D], bias[:D]).view(B, 1, H, D // H).transpose(1, 2)
    k, v = F.linear(x, weight[D:], bias[D:]).view(B, T, 2, H, D // H).permute(2, 0, 3, 1, 4)
    mask = None if seen is None else seen[:, None, None]
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, 1, D/H)
    return attention.out(y.flatten(1))  # type: ignore[no-any-return]


def _apply_mlp(block: Block, x: Tensor) -> Tensor:
    mlp = block.mlp
    if not isinstance(mlp.activation, QuickGELU):
        return mlp(x)  # type: ignore[no-any-return]
    flat = x.view(-1, x.shape[-1])
    up, down = mlp.up, mlp.down
    hidden = torch.addmm(up.bias, flat, up.weight.T, beta=_SLOPE, alpha=_SLOPE)
    hidden = F.silu(hidden, inplace=True)
    y = torch.addmm(down.bias, hidden, down.weight.T, alpha=1 / _SLOPE)
    return y.view(x.shape)
