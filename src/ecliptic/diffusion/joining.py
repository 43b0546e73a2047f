"""Pieces of all encoders and prompts become the tensors of a family.

B prompts, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecliptic.diffusion.behaviours import Unequal
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.pieces import Piece, common_length, lengthened

Row = tuple[Piece, ...]  # one prompt, per encoder
Empties = Sequence[Callable[[], Piece]]  # the empty prompt, per encoder


@dataclass(frozen=True, eq=False)
class Joined:
    """Tensors of B prompts."""

    tokens: Tensor | None  # (B, T, D)
    pooled: Tensor | None  # (B, E)
    mask: Tensor | None  # (B, T) bool

    @property
    def batch(self) -> int:
        """B."""
        return next(len(x) for x in self._vectors() if x is not None)

    def zeros(self) -> "Joined":
        """Zeros in place of vectors."""
        tokens, pooled = (None if x is None else torch.zeros_like(x) for x in self._vectors())
        return replace(self, tokens=tokens, pooled=pooled)

    def widened(self) -> "Joined":
        """Vectors in float32."""
        tokens, pooled = (None if x is None else x.float() for x in self._vectors())
        return replace(self, tokens=tokens, pooled=pooled)

    def _vectors(self) -> tuple[Tensor | None, Tensor | None]:
        return self.tokens, self.pooled


def level(row: Row, empties: Empties) -> Row:
    """One prompt's pieces made equally long with empty chunks, as ComfyUI does for SDXL."""
    longest = max(piece.length for piece in row)
    return tuple(
        lengthened(piece, longest, "empty chunk", empty)
        for piece, empty in zip(row, empties, strict=True)
    )


def equalised(row: Row, length: int, rule: Unequal, empties: Empties) -> Row:
    """A levelled prompt's pieces, each made `length` tokens by `rule`."""
    return tuple(
        lengthened(piece, length, rule, empty) for piece, empty in zip(row, empties, strict=True)
    )


def shared_length(rows: Sequence[Row], rule: Unequal) -> int:
    """How long all levelled prompts of a call become."""
    return common_length([row[0].length for row in rows], rule)


def joined(rows: Sequence[Row], family: Family) -> Joined:
    """Encoders side by side on the channels, prompts one below the other."""
    sequences = [[p.sequence for p in row if p.sequence is not None] for row in rows]
    pooled = [[p.pooled for p in row if p.pooled is not None] for row in rows]
    return Joined(
        torch.stack([torch.cat(one, dim=-1) for one in sequences]) if sequences[0] else None,
        torch.stack([torch.cat(one, dim=-1) for one in pooled]) if pooled[0] else None,
        torch.stack([row[0].mask for row in rows]) if family.returns_mask else None,
    )
