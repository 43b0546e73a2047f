"""The encoder as the rules of emphasis see it, and the step away from the empty prompt they share.

C chunks, T tokens, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from ecliptic.diffusion.rows import Rows

Encode: TypeAlias = Callable[[Rows], Tensor]  # rows -> (C, T, D), layer and norm already chosen


@dataclass(frozen=True, eq=False)
class Source:
    """Where a rule of emphasis gets vectors of other rows from."""

    encode: Encode
    pad: int  # id
    end_of_text: int  # id

    def vectors(self, rows: Rows) -> Tensor:
        """(C, T, D) of `rows`, their weights unread; at least float32."""
        return widened(self.encode(rows))

    def empty(self, rows: Rows) -> Tensor:
        """(1, T, D) of the empty prompt, for every chunk of `rows`."""
        empty = rows.empty(self.pad, self.end_of_text)
        seen = None
        if rows.mask is not None:  # an encoder that is masked sees no padding here either
            seen = torch.zeros_like(rows.mask[:1])
            seen[:, :2] = True
        used = None if empty.used is None else empty.used[:1]
        return self.vectors(
            replace(
                empty,
                ids=empty.ids[:1],
                weights=empty.weights[:1],
                words=empty.words[:1],
                segments=empty.segments[:1],
                mask=seen,
                used=used,
            )
        )


def widened(z: Tensor) -> Tensor:
    """Half precision as float32, so that means and differences keep their digits."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def away_from_empty(z: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """`(z - e) w + e`, token by token; where the weight is 1 exactly `z`.

    Args:
        z: (C, T, D) vectors of the prompt.
        empty: (1, T, D) vectors of the empty prompt.
        weights: (C, T).

    Source: ComfyUI comfy/sd1_clip.py `ClipTokenWeightEncoder.encode_token_weights`; compel 2.5.1
    embeddings_provider.py `build_weighted_embedding_tensor` has the same.
    """
    w = weights.to(z).unsqueeze(-1)  # (C, T, 1)
    return torch.where(w == 1, z, (z - empty) * w + empty)


def comfyui(rows: Rows, z: Tensor, source: Source) -> Tensor:
    """Each token as far from the empty prompt as its weight says."""
    return away_from_empty(z, source.empty(rows), rows.weights)
