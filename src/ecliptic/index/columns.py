"""Columns of a store: their names, their types, and values that fit them.

A value is a string, a whole number, a float, a truth value or a time; None is a missing value.
Times have no zone and are in UTC.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from ecliptic.checks import check_choice
from ecliptic.errors import ConfigError

ColumnType = Literal["string", "int", "float", "bool", "timestamp"]
ColumnValue = str | int | float | bool | datetime
ColumnTypes = Mapping[str, ColumnType]

ID, VECTOR = "id", "vector"  # every store has these two
MOST_COLUMNS = 64
LONGEST_STRING = 1 << 16  # bytes of UTF-8, 65,536
KEYWORDS = frozenset(  # of filters, so no column can have these names
    ("and", "or", "not", "in", "is", "contains", "starts", "with", "missing")
)
_NAME = re.compile("[a-z][a-z0-9_]{0,62}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WHOLE = range(-(1 << 63), 1 << 63)


def check_column_types(columns: Mapping[str, str]) -> None:
    """Raise ConfigError unless names and types of columns are allowed."""
    if len(columns) > MOST_COLUMNS:
        raise ConfigError(f"a store has at most {MOST_COLUMNS} columns, got {len(columns)}.")
    for name, kind in columns.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot be the name of a column; use lower-case letters, digits and "
                "underscores, at most 63, and begin with a letter."
            )
        if name in KEYWORDS:
            raise ConfigError(f"{name!r} is a word of filters, so no column can have this name.")
        if name in (ID, VECTOR):
            raise ConfigError(f"the column {name!r} is there in every store; leave it out.")
        check_choice(f"the type of the column {name!r}", kind, get_args(ColumnType))


def fit(value: Any, kind: ColumnType) -> ColumnValue | None:
    """`value` as a value of the type `kind`; None stays None.

    Raises:
        ValueError: it does not fit; the message says why.
    """
    if value is None:
        return None
    fitted: ColumnValue = _FITTERS[kind](value.item() if hasattr(value, "item") else value)
    return fitted


def _fit_string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"it must be a string, got {value!r}")
    return check_text(value)


def check_text(value: str, longest: int = LONGEST_STRING) -> str:
    """`value`, if every store can hold it.

    Raises:
        ValueError: it is too long, or holds NUL or half a character.
    """
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("it holds a lone surrogate, which is half a character") from None
    if size > longest:
        raise ValueError(f"it has {size} bytes, the limit is {longest}")
    if "\0" in value:
        raise ValueError("it holds the character NUL")
    return value


def _fit_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"it must be a whole number, got {value!r}")
    if int(value) not in _WHOLE:
        raise ValueError(f"it must have at most 64 bits, got {value!r}")
    return int(value)


def _fit_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"it must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"it must be a finite number, got {number}")
    return number or 0.0  # Lance tells -0.0 from 0.0


def _fit_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"it must be true or false, got {value!r}")
    return value


def _fit_timestamp(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise ValueError(f"it must be a time, got {value!r}")
    if value.tzinfo is None:
        return value
    try:
        return value.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError(f"it must be in the years 1 to 9999 in UTC, got {value}") from None


_FITTERS: dict[str, Any] = {
    "string": _fit_string,
    "int": _fit_int,
    "float": _fit_float,
    "bool": _fit_bool,
    "timestamp": _fit_timestamp,
}


def read_text(text: str, kind: ColumnType) -> Any:
    """What a text stands for in a column: cells of CSV and values of filters are texts.

    A text that is no truth value stays as it is, which `fit` refuses.

    Raises:
        ValueError: it is no number, or no date or time of ISO 8601.
    """
    if kind == "bool":
        return _BOOLS.get(text.strip().lower(), text)
    if kind == "timestamp":
        return datetime.fromisoformat(text.strip())
    if kind == "string":
        return text
    if not _NUMBER.fullmatch(text.strip()):  # Python also takes 1_000 and other digits
        raise ValueError(f"it must be a number, got {text!r}")
    try:
        return int(text)
    except ValueError:
        return float(text)


def arrow_type(kind: str) -> Any:
    """The type of pyarrow that holds a column."""
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("us"),
    }
    return types[kind]
