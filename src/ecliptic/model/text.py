"""The causal text tower: token ids in, vectors out.

openai/CLIP clip/model.py `CLIP.encode_text`. Attention is causal and unmasked otherwise, so
whatever follows the end of text cannot change its vector.
B batch, T tokens, D width, E vector size.
"""

import torch
from torch import Tensor, nn

from ecliptic.errors import ShapeError
from ecliptic.model.config import TextConfig
from ecliptic.model.layers import Block, LayerNorm
from ecliptic.model.states import TowerStates, layer_index, run_blocks


def end_positions(tokens: Tensor, end_of_text: int) -> Tensor:
    """Where each row of (B, T) ids first holds `end_of_text`: (B,).

    Raises:
        ShapeError: a row has none, so there is nothing to pool.
    """
    ends = tokens == end_of_text
    if not bool(ends.any(dim=-1).all()):
        row = int((~ends.any(dim=-1)).nonzero()[0, 0])
        raise ShapeError(
            f"row {row} of the tokens has no end-of-text id {end_of_text}, and the vector is read "
            "there; cut long texts with the tokenizer, which always keeps it."
        )
    return ends.int().argmax(dim=-1)  # the first of equal maxima


class TextTower(nn.Module):
    """Token and position embeddings, causal blocks, final norm, projection at end of text."""

    def __init__(self, config: TextConfig, embed: int) -> None:
        super().__init__()
        self.config = config
        c = config
        # not nn.Embedding(...): its random numbers, on the meta device, import all of torch._dynamo
        table = torch.empty(c.vocabulary, c.width)
        self.token_embedding = nn.Embedding.from_pretrained(table, freeze=False)  # type: ignore[no-untyped-call]
        self.positions = nn.Parameter(torch.empty(c.context, c.width))
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, c.mlp, c.activation, c.eps) for _ in range(c.depth)
        )
        self.ln_final = LayerNorm(c.width, eps=c.eps)
        self.projection = nn.Parameter(torch.empty(c.width, embed)) if c.projection else None

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) ids -> (B, E) raw vectors; T may be shorter than the context."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, causal=True)
        return self.project(self.pool(x, tokens))

    def sequence(self, tokens: Tensor, *, layer: int = -1, final_norm: bool = True) -> Tensor:
        """(B, T, D) hidden layer `layer` (0 before the first block, -1 the last)."""
        x = self.embed(tokens)
        for block in self.blocks[: layer_index(layer, self.config.depth)]:
            x = block(x, causal=True)
        return self.ln_final(x) if final_norm else x

    def states(self, tokens: Tensor, *, look: bool = False) -> TowerStates:
        """Every hidden layer, the pooled state and the vectors; attention weights if `look`."""
        hidden, attention = run_blocks(self.blocks, self.embed(tokens), causal=True, look=look)
        pooled = self.pool(hidden[-1], tokens)
        last = self.ln_final(hidden[-1])
        return TowerStates(hidden, attention, last, pooled, self.project(pooled))

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D), what enters the first block."""
        if tokens.ndim != 2 or tokens.shape[1] > self.config.context:
            raise ShapeError(
                f"tokens must be (batch, at most {self.config.context}), got "
                f"{tuple(tokens.shape)}; `clip.tokenize(texts)` gives the right shape."
            )
        x: Tensor = self.token_embedding(tokens) + self.positions[: tokens.shape[1]]
        return x.to(self.positions.dtype)  # (B, T, D)

    def pool(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, T, D) last hidden layer -> (B, D), normed, at each row's first end of text."""
        rows = torch.arange(len(x), device=x.device)
        ends = end_positions(tokens, self.config.end_of_text)
        pooled: Tensor = self.ln_final(x[rows, ends])
        return pooled

    def project(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, E); the identity for encoders without a projection."""
        return pooled if self.projection is None else pooled @ self.projection
