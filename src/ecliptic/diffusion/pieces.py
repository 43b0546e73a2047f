"""One encoded prompt of one encoder, and prompts of different length made equal.

Which rule makes positive and negative equally long is each tool's own: stable-diffusion-webui
`stack_conds` repeats the last vector; ComfyUI repeats the whole sequence up to a common multiple,
which changes no attention result; compel and lpw add chunks of the empty prompt.
T tokens, D width, E vector size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ecliptic.diffusion.behaviours import Unequal
from ecliptic.errors import ConfigError, ShapeError


@dataclass(frozen=True, eq=False)
class Piece:
    """What one encoder made of one prompt."""

    sequence: Tensor | None  # (T, D); None where the family reads none
    pooled: Tensor | None  # (E,), likewise
    mask: Tensor  # (T,) bool: tokens up to each chunk's end of text

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.mask)


# What a layout's own tool does about prompts of different length; the others add empty chunks.
OF_LAYOUT: dict[str, Unequal] = {"a1111": "repeat last", "comfyui": "repeat whole"}


MOST_REPEATS = 16  # of the longest prompt


def common_length(lengths: Sequence[int], rule: Unequal) -> int:
    """How long pieces of `lengths` become under `rule`."""
    if rule != "repeat whole":
        return max(lengths)
    if (common := math.lcm(*lengths)) > MOST_REPEATS * max(lengths):
        raise ConfigError(
            f"prompts of {', '.join(map(str, sorted(set(lengths))))} tokens have no common "
            f"multiple below {common}, up to which ComfyUI would repeat them; use a layout of "
            "whole chunks, or another compat."
        )
    return common


def lengthened(piece: Piece, length: int, rule: Unequal, empty: Callable[[], Piece]) -> Piece:
    """`piece` with `length` tokens; `empty` encodes the empty prompt, one chunk."""
    if piece.length == length:
        return piece
    if rule == "repeat whole":
        return _mapped(piece, lambda x: x.repeat(length // len(x), *[1] * (x.ndim - 1)))
    if rule == "repeat last":
        more = length - piece.length
        return _mapped(piece, lambda x: torch.cat([x, x[-1:].expand(more, *x.shape[1:])]))
    return _with_chunks(piece, length, empty())


def _with_chunks(piece: Piece, length: int, empty: Piece) -> Piece:
    """Whole empty chunks behind it, or only their inside before its end where ends are shared."""
    missing, inside = length - piece.length, empty.length - 2
    if missing % empty.length == 0:
        times = missing // empty.length
        return _joined(piece, empty, lambda x, e: torch.cat([x, *[e] * times]))
    if missing % inside == 0:
        times = missing // inside
        return _joined(piece, empty, lambda x, e: torch.cat([x[:-1], *[e[1:-1]] * times, x[-1:]]))
    raise ShapeError(
        f"a prompt of {piece.length} tokens cannot be filled up to {length} with chunks of "
        f"{empty.length}; use one layout for all prompts, or pass compat= with another rule."
    )


def _mapped(piece: Piece, change: Callable[[Tensor], Tensor]) -> Piece:
    sequence = None if piece.sequence is None else change(piece.sequence)
    return replace(piece, sequence=sequence, mask=change(piece.mask))


def _joined(piece: Piece, empty: Piece, join: Callable[[Tensor, Tensor], Tensor]) -> Piece:
    sequence = piece.sequence
    if sequence is not None and empty.sequence is not None:
        sequence = join(sequence, empty.sequence)
    return replace(piece, sequence=sequence, mask=join(piece.mask, empty.mask))
