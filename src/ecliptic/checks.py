"""Checks that every part makes in one way: finite numbers and counts. Imports no torch."""

import math
from numbers import Integral
from typing import Any

from ecliptic.errors import ConfigError, EclipticError, NumericalError


def is_finite(values: Any) -> bool:
    """Whether no value is NaN or infinite.

    Args:
        values: a number, a NumPy array, a tensor (whole numbers are finite), or a list of these.
    """
    if isinstance(values, int | float):
        return math.isfinite(values)
    if isinstance(values, list | tuple):
        return all(map(is_finite, values))
    if hasattr(values, "is_floating_point"):  # a tensor
        return not values.is_floating_point() or bool(values.isfinite().all())
    import numpy as np

    return bool(np.isfinite(values).all())


def check_finite(
    values: Any, what: str, fix: str, error: type[EclipticError] = NumericalError
) -> None:
    """Raise unless all of `values` is finite.

    Args:
        values: as for `is_finite`.
        what: whose values these are, for the message: "the noised vectors".
        fix: what to do about it, the end of the message.
        error: what is raised.

    Raises:
        NumericalError: or `error`: a value is NaN or infinite.
    """
    if not is_finite(values):
        where = _first(values)
        raise error(f"{what} must be finite, but there is NaN or infinity{where}; {fix}")


def _first(values: Any) -> str:
    """How many values of an array or tensor are not finite, and where the first is."""
    if isinstance(values, int | float | list | tuple):
        return ""
    import numpy as np

    array = np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)
    bad = np.argwhere(~np.isfinite(array))
    place = tuple(map(int, bad[0]))
    return f" ({len(bad)} of {array.size} values, the first at {place})"


def check_count(name: str, value: Any, least: int = 1) -> int:
    """`value`, if it is a whole number of at least `least`.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{name} must be a whole number, got {value!r}.")
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value!r}.")
    return int(value)
