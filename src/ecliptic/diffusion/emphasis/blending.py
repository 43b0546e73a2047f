"""Whole prompts joined after encoding: compel's `.blend` and `.and`.

compel 2.5.1 compel.py and embeddings_provider.py. Pooled vectors have their own functions: compel
computes them from the raw text, operators and all, which no encoder was trained on. A blend's
pooled vector is the blend of its parts' pooled vectors; that of an `.and` is its first part's, as
a prompt of several chunks has the first chunk's. T tokens, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.diffusion.emphasis.scaling import widen
from ecliptic.errors import ConfigError, ShapeError

SMALLEST_SUM = 1e-3  # of the weights, as a share of the sum of their sizes


def blend(
    parts: Sequence[Tensor],
    weights: Sequence[float],
    *,
    normalize: bool = True,
    empty: Tensor | None = None,
) -> Tensor:
    """The weighted mean of prompts, `sum w E / sum w`; without `normalize` the weighted sum.

    Args:
        parts: (T, D) each; shorter ones are filled with `empty`, as often as it takes.
        weights: one for each part, of any sign.
        normalize: divide by the sum of the weights.
        empty: (T, D) one chunk of the encoded empty prompt; needed if lengths differ.

    Returns:
        (T, D) in the dtype of the parts.

    Raises:
        ConfigError: no parts, another number of weights, or weights that cannot be normalised.
        ShapeError: lengths or widths that do not fit together.
    """
    factors = _factors(len(parts), weights, normalize)
    longest = max(len(part) for part in parts)
    return _sum([_fill(part, longest, empty) for part in parts], factors)


def blend_pooled(
    parts: Sequence[Tensor], weights: Sequence[float], *, normalize: bool = True
) -> Tensor:
    """(E,) weighted mean of pooled vectors (E,), with the weights of the blend they belong to."""
    return _sum(list(parts), _factors(len(parts), weights, normalize))


def concatenate(
    parts: Sequence[Tensor], weights: Sequence[float], *, empty: Tensor | None = None
) -> Tensor:
    """Prompts one behind the other on the token axis, each at `e + (E - e) w`.

    Args:
        parts: (T, D) each, of any lengths.
        weights: one for each part.
        empty: (T, D) one chunk of the encoded empty prompt; needed for weights other than 1.

    Returns:
        (sum of T, D) in the dtype of the parts.

    Raises:
        ConfigError: no parts, another number of weights, or one that is not finite.
        ShapeError: `empty` is missing, or its length or width does not fit.
    """
    factors = _factors(len(parts), weights, normalize=False)
    return torch.cat(
        [_weighted(part, factor, empty) for part, factor in zip(parts, factors, strict=True)]
    )


def concatenate_pooled(parts: Sequence[Tensor]) -> Tensor:
    """(E,) pooled vector of prompts that were concatenated: the first one's."""
    if not parts:
        raise ConfigError("there is no part to take the pooled vector of; give at least one.")
    return parts[0]


def _factors(count: int, weights: Sequence[float], normalize: bool) -> list[float]:
    factors = [float(weight) for weight in weights]
    if not count or len(factors) != count:
        raise ConfigError(
            f"{count} prompts and {len(factors)} weights cannot be joined; give at least one "
            "prompt, and one weight for each."
        )
    if not is_finite(factors):
        raise ConfigError(f"the weights {factors} must all be finite numbers.")
    if not normalize:
        return factors
    total, size = math.fsum(factors), math.fsum(map(abs, factors))
    if abs(total) <= SMALLEST_SUM * size:
        raise ConfigError(
            f"the weights {factors} of a blend sum to {total:g}, and a blend divides by their "
            "sum; change one of them, or add no_normalize (normalize=False) to leave it a sum."
        )
    return [factor / total for factor in factors]


def _fill(part: Tensor, length: int, empty: Tensor | None) -> Tensor:
    """The part with `empty` behind it until it has `length` tokens."""
    missing = length - len(part)
    if not missing:
        return part
    if empty is None or missing % len(empty) or part.shape[1:] != empty.shape[1:]:
        shape = None if empty is None else tuple(empty.shape)
        raise ShapeError(
            f"a part of {tuple(part.shape)} cannot be filled up to {length} tokens with "
            f"empty={shape}; pass one chunk of the encoded empty prompt, of the same encoder and "
            "layout."
        )
    return torch.cat([part, empty.to(part).repeat(missing // len(empty), 1)])


def _weighted(part: Tensor, weight: float, empty: Tensor | None) -> Tensor:
    if weight == 1:
        return part
    start = _fill(part[:0], len(part), empty)
    e = widen(start)
    return (e + (widen(part) - e) * weight).to(part.dtype)


def _sum(parts: list[Tensor], factors: list[float]) -> Tensor:
    """The sum of every tensor times its factor, in at least float32."""
    if len({part.shape for part in parts}) > 1:
        shapes = [tuple(part.shape) for part in parts]
        raise ShapeError(f"parts of shapes {shapes} cannot be blended; encode all of them alike.")
    terms = [widen(part) * factor for part, factor in zip(parts, factors, strict=True)]
    return torch.stack(terms).sum(dim=0).to(parts[0].dtype)
