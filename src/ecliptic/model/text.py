"""The causal text tower: token ids in, vectors out.

openai/CLIP clip/model.py `CLIP.encode_text`. Attention is causal, so tokens after the
end of text cannot change the vector.
B batch, T tokens, D width, E vector size.
"""

import torch
from torch import Tensor, nn

from ecliptic.errors import ShapeError
from ecliptic.model.config import TextConfig
from ecliptic.model.layers import Block, LayerNorm, causal_mask
from ecliptic.model.states import TextOutputs, TowerStates, run_blocks, wanted_layer


def end_positions(tokens: Tensor, end_of_text: int) -> Tensor:
    """Find the first `end_of_text` in each row of (B, T) ids: (B,).

    Raises:
        ShapeError: a row has none, so there is nothing to pool.
    """
    ends = tokens == end_of_text
    if not bool(ends.any(dim=-1).all()):
        row = int((~ends.any(dim=-1)).nonzero()[0, 0])
        raise ShapeError(
            f"row {row} of the tokens has no end-of-text id {end_of_text}, where the vector is "
            "read; cut long texts with the tokenizer, which always keeps it."
        )
    return ends.int().argmax(dim=-1)  # the first of equal maxima


class TextTower(nn.Module):
    """Token and position embeddings, causal blocks, final norm, projection at end of text."""

    def __init__(self, config: TextConfig, embed: int) -> None:
        super().__init__()
        self.config = config
        c = config
        # not nn.Embedding(...): its random numbers on the meta device import all of torch._dynamo
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
        sequence = self.outputs(tokens, layer=layer, final_norm=final_norm, pooled=False).sequence
        assert sequence is not None  # a layer was asked for
        return sequence

    def outputs(
        self,
        tokens: Tensor,
        *,
        layer: int | None = -1,
        final_norm: bool = True,
        pooled: bool = True,
        embedded: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> TextOutputs:
        """The sequence of one hidden layer and the vectors of the last, in one pass.

        Args:
            tokens: (B, T) ids; their first end of text is pooled.
            layer: of the sequence: 0 before the first block, -1 the last; None for no sequence.
            final_norm: apply ln_final to the sequence, whichever layer it is.
            pooled: also compute the pooled state and the vectors.
            embedded: (B, T, D) token embeddings, without positions, in place of those of `tokens`.
            mask: (B, T), True where a token may be attended to; attention stays causal.

        Raises:
            ConfigError: no such layer, or neither output is asked for.
            ShapeError: shapes that do not fit, or a row without an end of text to pool.
        """
        wanted = wanted_layer(layer, self.config.depth, pooled=pooled)
        x, hiding = self.embed(tokens, embedded), self.hiding(tokens, mask)
        sequence = x if wanted == 0 else None
        for count, block in enumerate(self.blocks[: None if pooled else wanted], start=1):
            x = block(x, causal=True, mask=hiding)
            sequence = x if count == wanted else sequence
        if sequence is not None and final_norm:
            sequence = self.ln_final(sequence)
        if not pooled:
            return TextOutputs(sequence, None, None)
        state = self.pool(x, tokens)
        return TextOutputs(sequence, state, self.project(state))

    def states(
        self,
        tokens: Tensor,
        *,
        look: bool = False,
        embedded: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> TowerStates:
        """Every hidden layer, the pooled state and the vectors; attention weights if `look`."""
        x, hiding = self.embed(tokens, embedded), self.hiding(tokens, mask)
        hidden, attention = run_blocks(self.blocks, x, causal=True, look=look, mask=hiding)
        pooled = self.pool(hidden[-1], tokens)
        last = self.ln_final(hidden[-1])
        return TowerStates(hidden, attention, last, pooled, self.project(pooled))

    def embed(self, tokens: Tensor, embedded: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, T, D), the input of the first block; `embedded` replaces the lookup."""
        if tokens.ndim != 2 or tokens.shape[1] > self.config.context:
            raise ShapeError(
                f"tokens must be (batch, at most {self.config.context}), got "
                f"{tuple(tokens.shape)}; `clip.tokenize(texts)` gives the right shape."
            )
        if embedded is None:
            embedded = self.token_embedding(tokens)
        elif embedded.shape != (*tokens.shape, self.config.width):
            raise ShapeError(
                f"embedded is {tuple(embedded.shape)}, but these tokens need one vector of "
                f"{self.config.width} values each: {(*tokens.shape, self.config.width)}."
            )
        x: Tensor = embedded + self.positions[: tokens.shape[1]]
        return x.to(self.positions.dtype)  # (B, T, D)

    def hiding(self, tokens: Tensor, mask: Tensor | None) -> Tensor | None:
        """Turn `mask` into numbers to add to attention scores: (B, 1, T, T), causal; None stays."""
        if mask is None:
            return None
        if mask.shape != tokens.shape:
            raise ShapeError(
                f"mask is {tuple(mask.shape)} and the tokens are {tuple(tokens.shape)}, but each "
                "token needs its own True (may be attended to) or False."
            )
        return causal_mask(mask.to(self.positions.device), self.positions.dtype)

    def pool(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(B, T, D) last hidden layer -> (B, D), normed, at each row's first end of text."""
        rows = torch.arange(len(x), device=x.device)
        ends = end_positions(tokens, self.config.end_of_text)
        pooled: Tensor = self.ln_final(x[rows, ends])
        return pooled

    def project(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, E); the identity for encoders without a projection."""
        return pooled if self.projection is None else pooled @ self.projection
