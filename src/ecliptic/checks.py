"""Checks that all parts share: finite numbers and counts. Imports no torch."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from ecliptic.errors import ConfigError, EclipticError, NumericalError, did_you_mean


def is_finite(values: Any) -> bool:
    """Whether all values are finite: no NaN, no infinity.

    Args:
        values: a number, a NumPy array, a tensor (integers are finite), or a list of these.
    """
    if isinstance(values, int | float):
        try:
            return math.isfinite(values)
        except OverflowError:  # a whole number beyond every float
            return False
    if isinstance(values, list | tuple):
        return all(map(is_finite, values))
    if hasattr(values, "is_floating_point"):  # a tensor
        if values.element_size() == 1:  # PyTorch tests no float8
            values = values.float()
        return not values.is_floating_point() or bool(values.isfinite().all())
    import numpy as np

    return bool(np.isfinite(values).all())


def check_finite(
    values: Any, what: str, fix: str, error: type[EclipticError] = NumericalError
) -> None:
    """Raise unless all of `values` is finite.

    Args:
        values: as for `is_finite`.
        what: the name of the values in the message: "the noised vectors".
        fix: what to do about it, the end of the message.
        error: the class to raise.

    Raises:
        NumericalError: or `error`: a value is NaN or infinite.
    """
    if not is_finite(values):
        raise error(f"{what} must be finite, {_describe(values)}; {fix}")


def _describe(values: Any) -> str:
    """Show the numbers; for arrays and tensors, the count that is not finite and the first one."""
    if isinstance(values, int | float | list | tuple):
        try:
            return f"got {values!r}"
        except ValueError:  # more digits than Python writes
            return "got a whole number of thousands of digits"
    import numpy as np

    array = np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)
    bad = np.argwhere(~np.isfinite(array))
    if array.size == 1:
        return f"got {array.item()}"
    place = ", ".join(map(str, bad[0]))
    return f"but {len(bad)} of {array.size} values are NaN or infinity, the first at [{place}]"


def rows_not_finite(rows: Any) -> list[int]:
    """Find rows of an (N, ...) array or tensor with NaN or infinity; needs memory for N values."""
    if not math.prod(rows.shape):
        return []
    flat = rows.reshape(len(rows), -1)
    if hasattr(flat, "amin"):  # a tensor
        low, high = flat.amin(1), flat.amax(1)  # NaN wins in both
        bad = ~(low.isfinite() & high.isfinite())
        return bad.nonzero()[:, 0].tolist()  # type: ignore[no-any-return]
    import numpy as np

    bad = ~(np.isfinite(flat.min(axis=1)) & np.isfinite(flat.max(axis=1)))
    return np.flatnonzero(bad).tolist()


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return `value` as an int if it is a whole number of at least `least`.

    Raises:
        ConfigError: it is not a whole number, or is smaller.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{name} must be a whole number, got {value!r}.")
    if value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value!r}.")
    return int(value)


def check_number(name: str, value: Any, fix: str) -> float:
    """Return `value` as a float if it is a finite number.

    Args:
        name: of the argument.
        value: to check.
        fix: the end of the message: "pass 0 to 1."

    Raises:
        ConfigError: it is not a number, or NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{name} must be a number, got {value!r}; {fix}")
    check_finite(value, name, fix, ConfigError)
    return float(value)


def check_range(
    name: str,
    value: float,
    least: float = 0.0,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Raise ConfigError unless `value` is a finite number from `least` to `most`.

    Args:
        name: of the value in the message.
        value: the number.
        least, most: the bounds.
        above, below: whether `least`, or `most`, is itself too small, or too large.
    """
    fits = (value > least if above else value >= least) and (
        value < most if below else value <= most
    )
    if not (is_finite(value) and fits):
        low = f"{'above' if above else 'at least'} {least:g}"
        high = "" if most == math.inf else f" and {'below' if below else 'at most'} {most:g}"
        raise ConfigError(f"{name} must be a number {low}{high}, got {value!r}.")


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Raise ConfigError unless `value` is one of the `known` names; `name` is the argument's."""
    known = list(known)
    if value not in known:
        hint = f"; {found}" if (found := did_you_mean(value, known)) else "."
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")
