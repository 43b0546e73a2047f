"""Joins encoded prompts: compel's `.blend` and `.and`.

Source: compel 2.5.1 compel.py and embeddings_provider.py. Pooled vectors have their own functions:
compel computes them from the raw text with its operators, on which no encoder was trained. Here a
blend's pooled vector is the blend of its parts' pooled vectors. An `.and` has the pooled vector of
its first part, as a prompt of several chunks has that of its first chunk. T tokens, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ecliptic.checks import is_finite
from ecliptic.diffusion.emphasis.extending import common_length, extend
from ecliptic.diffusion.emphasis.scaling import widen
from ecliptic.errors import ConfigError, ShapeError

SMALLEST_SUM = 1e-3  # of the weights, relative to the sum of their absolute values


def blend(
    parts: Sequence[Tensor],
    weights: Sequence[float],
    *,
    normalize: bool = True,
    empty: Tensor | None = None,
) -> Tensor:
    """Blend prompts to their weighted mean `sum w E / sum w`; or sum, if not `normalize`.

    Args:
        parts: (T, D) each; shorter ones are lengthened with `empty`.
        weights: one for each part, of any sign.
        normalize: divide by the sum of the weights.
        empty: (T, D) one chunk of the encoded empty prompt; needed if lengths differ.

    Returns:
        (T, D) in the dtype of the parts.

    Raises:
        ConfigError: no parts, another number of weights, or weights that cannot be normalised.
        ShapeError: lengths or widths that do not fit together.
    """
    factors = _check_weights(len(parts), weights, normalize)
    longest = common_length(map(len, parts), 0 if empty is None else len(empty))
    return _add([extend(part, longest, empty) for part in parts], factors)


def blend_pooled(
    parts: Sequence[Tensor], weights: Sequence[float], *, normalize: bool = True
) -> Tensor:
    """Blend (E,) pooled vectors with the weights of their prompts."""
    return _add(list(parts), _check_weights(len(parts), weights, normalize))


def concatenate(
    parts: Sequence[Tensor], weights: Sequence[float], *, empty: Tensor | None = None
) -> Tensor:
    """Concatenate prompts on the token axis, each as `e + (E - e) w`.

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
    factors = _check_weights(len(parts), weights, normalize=False)
    return torch.cat(
        [_weigh(part, factor, empty) for part, factor in zip(parts, factors, strict=True)]
    )


def concatenate_pooled(parts: Sequence[Tensor]) -> Tensor:
    """The (E,) pooled vector of concatenated prompts: that of the first."""
    if not parts:
        raise ConfigError("there is no part to take the pooled vector of; give at least one.")
    return parts[0]


def _check_weights(count: int, weights: Sequence[float], normalize: bool) -> list[float]:
    """Check the weights of `count` prompts; returns the factors of the prompts in the sum."""
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
            f"the weights {factors} of a blend sum to {total:g}, but a blend divides by their "
            "sum; change one of them, or add no_normalize (normalize=False) to get a plain sum."
        )
    return [factor / total for factor in factors]


def _weigh(part: Tensor, weight: float, empty: Tensor | None) -> Tensor:
    if weight == 1:
        return part
    e = widen(extend(part[:0], len(part), empty))
    return (e + (widen(part) - e) * weight).to(part.dtype)


def _add(parts: list[Tensor], factors: list[float]) -> Tensor:
    """Add up the parts, each times its factor, in at least float32."""
    if len({part.shape for part in parts}) > 1:
        shapes = [tuple(part.shape) for part in parts]
        raise ShapeError(
            f"parts of shapes {shapes} cannot be blended; encode all with the same encoders and "
            "layout."
        )
    terms = [widen(part) * factor for part, factor in zip(parts, factors, strict=True)]
    return torch.stack(terms).sum(dim=0).to(parts[0].dtype)
