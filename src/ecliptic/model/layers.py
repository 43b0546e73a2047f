"""Transformer parts shared by the image and the text tower.

Pre-norm residual blocks of CLIP (Radford et al. 2021, arXiv:2103.00020, section 2.4; openai/CLIP
clip/model.py). Patches and pooling live in `vision.py` and `text.py`.
B batch, T tokens, D width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.model.config import Activation


class QuickGELU(nn.Module):
    """`x * sigmoid(1.702 x)`, the activation of OpenAI's weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise."""
        return x * torch.sigmoid(1.702 * x)


_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU}


def activation_of(name: Activation) -> nn.Module:
    """The activation module called `name`; "gelu" is the exact (erf) form."""
    return _ACTIVATIONS[name]()


class LayerNorm(nn.LayerNorm):
    """LayerNorm computed in float32 when the input is half precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis; the result has the dtype of `x`."""
        if x.dtype in (torch.float16, torch.bfloat16):
            weight, bias = self.weight.float(), self.bias.float()
            y = F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps)
            return y.to(x.dtype)
        return super().forward(x)


def causal_mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Make numbers to add to attention scores: (B, T) visible tokens -> (B, 1, T, T).

    A hidden token gets the lowest finite number, not -infinity. A token that sees no token then
    attends to all of them equally, as in transformers' eager attention, and is never NaN.
    """
    T = visible.shape[1]
    earlier = torch.ones(T, T, dtype=torch.bool, device=visible.device).tril()
    hidden = ~(earlier & visible.bool()[:, None, None])  # (B, 1, T, T)
    return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)


class Attention(nn.Module):
    """Multi-head self-attention; `causal` hides later tokens from earlier ones.

    A `mask`, (B, 1, T, T) numbers that are added to the scores, replaces `causal`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # one matmul for all three
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = self.split(x)
        causal = causal and mask is None
        return self.join(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal))

    def look(
        self, x: Tensor, *, causal: bool = False, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and the attention weights (B, H, T, T); does not use the fused kernel."""
        q, k, v = self.split(x)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, H, T, T)
        if mask is not None:
            scores = scores + mask
        elif causal:
            hidden = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, float("-inf"))
        weights = scores.softmax(dim=-1)
        return self.join(weights @ v), weights

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, D/H)."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def join(self, y: Tensor) -> Tensor:
        """(B, H, T, D/H) -> (B, T, D), through the output projection."""
        return self.out(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """The MLP of a block: widen, activate, narrow."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = activation_of(activation)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(self.activation(self.up(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One pre-norm residual block: attention, then MLP."""

    def __init__(
        self, width: int, heads: int, mlp: int, activation: Activation, eps: float
    ) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.ln_2 = LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, mlp, activation)

    def forward(self, x: Tensor, *, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attention(self.ln_1(x), causal=causal, mask=mask)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]

    def look(
        self, x: Tensor, *, causal: bool = False, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, and the attention weights (B, H, T, T)."""
        y, weights = self.attention.look(self.ln_1(x), causal=causal, mask=mask)
        x = x + y
        return x + self.mlp(self.ln_2(x)), weights
