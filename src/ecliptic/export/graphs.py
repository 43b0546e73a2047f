"""What an exported file computes: one tower, from its inputs to raw vectors in float32.

The towers of `model` are used as they are. Only the pooling of texts is written anew, because
`TextTower.pool` looks at the numbers to refuse a row, which no graph can do.
B batch, T tokens, D width, S image side, E vector size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ecliptic.model import ImageTower, TextTower

SHORTEST = 2  # tokens: start and end of text
_EXAMPLES = 3  # rows of the inputs that are traced


class ImageGraph(nn.Module):
    """The image tower with float32 outside, whatever its own precision is."""

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower
        self.dtype = next(tower.parameters()).dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised float32 pixels -> (B, E) raw float32 vectors."""
        vectors: Tensor = self.tower(pixels.to(self.dtype))
        return vectors.float()


class TextGraph(nn.Module):
    """The text tower with its pooling as part of the graph.

    A row without an end of text has nothing to pool. `TextTower` refuses it; here its vector is
    NaN, so that no caller takes it for a vector.
    """

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 ids -> (B, E) raw float32 vectors; T may be shorter than the context."""
        tower = self.tower
        x = tower.embed(tokens)
        for block in tower.blocks:
            x = block(x, causal=True)
        ends = tokens == tower.config.end_of_text  # (B, T)
        place = ends.int().argmax(dim=-1)[:, None, None]  # the first of equal maxima
        state = x.gather(1, place.expand(-1, 1, x.shape[-1]))[:, 0]  # (B, D)
        vectors = tower.project(tower.ln_final(state)).float()
        return torch.where(ends.any(dim=-1, keepdim=True), vectors, torch.nan)


@dataclass(frozen=True)
class Graph:
    """One tower, and what an exporter needs to know of its input."""

    tower: str  # "image" or "text"
    input: str  # name of the input: "pixels" or "tokens"
    module: nn.Module
    example: Tensor
    dynamic: dict[int, Any]  # axis of the input -> its `Dim`


def graph_of(tower: ImageTower | TextTower) -> Graph:
    """The graph of a tower that is in eval mode, on the CPU."""
    batch = Dim("batch", min=1)
    if isinstance(tower, TextTower):
        context = tower.config.context
        tokens = torch.full((_EXAMPLES, context), tower.config.end_of_text)
        length = Dim("length", min=SHORTEST, max=context)
        return Graph("text", "tokens", TextGraph(tower), tokens, {0: batch, 1: length})
    size = tower.config.image_size
    pixels = torch.zeros(_EXAMPLES, 3, size, size)
    return Graph("image", "pixels", ImageGraph(tower), pixels, {0: batch})
