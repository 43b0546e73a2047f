"""What no prompt may exceed in any dialect, so that every one is read in bounded time and depth."""

import math

from ecliptic.checks import is_finite
from ecliptic.errors import TextError

NESTING_LIMIT = 64  # brackets open at once


def check_depth(depth: int, place: int) -> None:
    """Raise when more brackets are open than `NESTING_LIMIT`.

    Raises:
        TextError: with the place of the bracket that is one too many.
    """
    if depth > NESTING_LIMIT:
        raise TextError(
            f"more than {NESTING_LIMIT} brackets are open at position {place} of the prompt, which "
            "no weight needs; close some, or write literal brackets with a backslash.",
            place=place,
        )


def finite(number: str, place: int) -> float:
    """The value of a written weight or step.

    Raises:
        TextError: it is no finite number.
    """
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    check_weight(value, number, place)
    return value


def check_weight(value: float, written: str, place: int) -> None:
    """Raise when a weight, alone or multiplied by those around it, left the finite numbers.

    Raises:
        TextError: with the place of the weight or of the words under it.
    """
    if not is_finite(value):
        raise TextError(
            f"the weight {written!r} at position {place} of the prompt is no finite number; write "
            "one such as 1.2, or a backslash before a bracket or colon that is meant as text.",
            place=place,
        )
