"""Tokens on their way into a text encoder: one by one, then laid out in chunks.

C chunks, T tokens of context, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ecliptic.prompts import Span

NO_WORD = -1  # of start, end and padding in `Rows.words` and `Rows.segments`


@dataclass(frozen=True, eq=False)
class Token:
    """One token of a prompt, not yet placed in a chunk."""

    id: int  # 0 where `vector` stands in for the embedding
    piece: str  # for display
    span: Span  # characters of the prompt as given
    weight: float
    word: int  # number of the word it belongs to, from 0 and through the whole prompt
    segment: int  # number of the weighted segment, likewise
    vector: Tensor | None = None  # (D,) of a textual inversion


@dataclass(frozen=True, eq=False)
class Rows:
    """The chunks of one prompt for one encoder, ready for its tower."""

    ids: Tensor  # (C, T) int64
    weights: Tensor  # (C, T) float32; 1 on start, end and padding
    words: Tensor  # (C, T) int64, NO_WORD where there is none
    segments: Tensor  # (C, T) int64, NO_WORD where there is none
    # (chunk, place) -> (D,)
    vectors: Mapping[tuple[int, int], Tensor] = field(default_factory=dict)
    mask: Tensor | None = None  # (C, T) bool: tokens that may be attended to; None is all
    used: Tensor | None = None  # (C, T) bool: positions of the output that are kept; None is all

    def masked(self, seen: Tensor) -> "Rows":
        """The same rows where only `seen` (C, T) may be attended to, beside any mask before."""
        return replace(self, mask=seen if self.mask is None else self.mask & seen)

    def empty(self, pad: int, end_of_text: int) -> "Rows":
        """Rows of the empty prompt with as many chunks: start, end, padding."""
        ids = torch.full_like(self.ids, pad)
        ids[:, 0], ids[:, 1] = self.ids[:, 0], end_of_text
        none = torch.full_like(self.words, NO_WORD)
        return Rows(ids, torch.ones_like(self.weights), none, none, used=self.used)
