"""Limits of prompts in every dialect, so that reading takes bounded time and depth."""

import math

from ecliptic.checks import is_finite
from ecliptic.errors import TextError

NESTING_LIMIT = 64  # brackets open at once


def check_depth(depth: int, place: int) -> None:
    """Raise if more than `NESTING_LIMIT` brackets are open.

    Raises:
        TextError: `depth` is above the limit; the error has the place of the bracket.
    """
    if depth > NESTING_LIMIT:
        raise TextError(
            f"more than {NESTING_LIMIT} brackets are open at position {place} of the prompt, the "
            "limit of all dialects; close some, or put a backslash before literal brackets.",
            place=place,
        )


def read_number(number: str, place: int) -> float:
    """Read a weight or step from the text of a prompt.

    Raises:
        TextError: it is not a finite number.
    """
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    check_weight(value, place, number)
    return value


def check_weight(value: float, place: int, written: str | None = None) -> None:
    """Raise if a weight or step, alone or multiplied by those around it, is not finite.

    Args:
        value: the weight.
        place: of the weight, or of the words under it, for the error.
        written: the weight as written, for the message; by default its value.

    Raises:
        TextError: the weight is not finite.
    """
    if not is_finite(value):
        raise TextError(
            f"the number {written or str(value)!r} at position {place} of the prompt must be a "
            "finite number; write one such as 1.2, or put a backslash before a bracket or colon "
            "that is text.",
            place=place,
        )
