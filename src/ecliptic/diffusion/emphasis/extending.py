"""Lengthens sequences with the empty prompt, by whole chunks or by the inside of chunks.

A prompt has whole chunks of C tokens and, in kohya's layout, more insides of C - 2 tokens, because
start and end are shared there: C w + (C - 2) i tokens. T tokens.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from ecliptic.errors import ShapeError


def common_length(lengths: Iterable[int], chunk: int) -> int:
    """The least length to which all `lengths` can be extended with chunks of `chunk` tokens."""
    different = set(lengths)
    splits = [_split(length, chunk) for length in different]
    if len(different) == 1 or None in splits:
        return max(different)
    pairs = [split for split in splits if split is not None]
    return chunk * max(w for w, _ in pairs) + (chunk - 2) * max(i for _, i in pairs)


def can_extend(length: int, wanted: int, chunk: int) -> bool:
    """Whether chunks of `chunk` tokens can extend `length` tokens to `wanted`."""
    here, there = _split(length, chunk), _split(wanted, chunk)
    return here is not None and there is not None and there[0] >= here[0] and there[1] >= here[1]


def extend(x: Tensor, length: int, empty: Tensor | None) -> Tensor:
    """Append whole empty chunks, and insert insides of empty chunks before the last token.

    Args:
        x: (T, ...) of a prompt.
        length: tokens of the result, from `common_length`.
        empty: (C, ...) one chunk of the encoded empty prompt; not needed if nothing is missing.

    Raises:
        ShapeError: no number of chunks gives that length, or `empty` is missing or another shape.
    """
    if len(x) == length:
        return x
    chunk = 0 if empty is None or x.shape[1:] != empty.shape[1:] else len(empty)
    if empty is None or not can_extend(len(x), length, chunk):
        shape = None if empty is None else tuple(empty.shape)
        raise ShapeError(
            f"a prompt of {len(x)} tokens cannot be lengthened to {length} with empty={shape}, "
            "one chunk of the encoded empty prompt; use one layout and encoder for all prompts, or "
            "pass compat= with another rule."
        )
    here, there = _split(len(x), chunk) or (0, 0), _split(length, chunk) or (0, 0)
    whole, insides, empty = there[0] - here[0], there[1] - here[1], empty.to(x)
    x = torch.cat([x, *[empty] * whole])
    return torch.cat([x[:-1], *[empty[1:-1]] * insides, x[-1:]]) if insides else x


def _split(length: int, chunk: int) -> tuple[int, int] | None:
    """The numbers of whole chunks and of insides in `length` tokens; None if there are none."""
    if chunk and length % chunk == 0:
        return length // chunk, 0
    if chunk < 3:
        return None
    for whole in range(1, min(length // chunk, chunk - 2) + 1):
        if (length - whole * chunk) % (chunk - 2) == 0:
            return whole, (length - whole * chunk) // (chunk - 2)
    return None
