"""The syntax tree of a filter: comparisons of a column with a value, joined by and, or, not.

A missing value fits no comparison, and `not` is the plain opposite: `not (width > 100)` is true
of a row without a width. This differs from SQL, where a missing value fits neither.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal, cast, get_args

from ecliptic.errors import FilterError, did_you_mean
from ecliptic.index.columns import ID, ColumnType, ColumnTypes, ColumnValue, fit

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains", "starts with", "is missing"]
DEEPEST = 32  # levels of a tree
MOST_PARTS = 1000  # comparisons of a tree
MOST_VALUES = 10_000  # of one `in`
_TEXT_ONLY = ("contains", "starts with")


class _Joinable:
    """Filters can be joined in Python: `a & b`, `a | b`, `~a`."""

    def __and__(self, other: "Filter") -> "And":
        return And((cast(Filter, self), other))

    def __or__(self, other: "Filter") -> "Or":
        return Or((cast(Filter, self), other))

    def __invert__(self) -> "Not":
        return Not(cast(Filter, self))


@dataclass(frozen=True)
class Compare(_Joinable):
    """A column against a value: `Compare("width", ">=", 640)`.

    `in` takes a tuple of values; `is missing` takes None.
    """

    column: str
    operator: Operator
    value: ColumnValue | tuple[ColumnValue, ...] | None = None


@dataclass(frozen=True)
class And(_Joinable):
    """All of the parts."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or(_Joinable):
    """At least one of the parts."""

    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Not(_Joinable):
    """The opposite of the part."""

    part: "Filter"


Filter = Compare | And | Or | Not


def check_filter(tree: Filter, columns: ColumnTypes) -> Filter:
    """The same tree with values of the columns' types; whole numbers become floats, for example.

    An `and` or `or` of one part becomes this part, as it is printed.

    Raises:
        FilterError: an unknown column or operator, a value of another type, or a tree beyond the
            limits.
    """
    types: dict[str, ColumnType] = {ID: "string", **columns}
    if sum(1 for _ in islice(_comparisons(tree, 1), MOST_PARTS + 1)) > MOST_PARTS:
        raise FilterError(f"the filter has more than {MOST_PARTS} comparisons, which is the limit.")
    return _rebuild(tree, lambda part: _check_comparison(part, types))


def _comparisons(tree: Any, depth: int) -> Iterator[Compare]:
    if depth > DEEPEST:
        raise FilterError(f"the filter has more than {DEEPEST} levels; write it with fewer.")
    if isinstance(tree, Compare):
        yield tree
    elif isinstance(tree, Not):
        yield from _comparisons(tree.part, depth + 1)
    elif isinstance(tree, And | Or):
        if not isinstance(tree.parts, tuple | list) or not tree.parts:
            raise FilterError("an `and` or `or` of nothing; give it at least one part.")
        for part in tree.parts:
            yield from _comparisons(part, depth + 1)
    else:
        raise FilterError(f"{tree!r} is no filter; use Compare, And, Or and Not, or a text.")


def _rebuild(tree: Filter, change: Callable[[Compare], Compare]) -> Filter:
    if isinstance(tree, Compare):
        return change(tree)
    if isinstance(tree, Not):
        return Not(_rebuild(tree.part, change))
    parts = tuple(_rebuild(part, change) for part in tree.parts)
    return parts[0] if len(parts) == 1 else type(tree)(parts)


def _check_comparison(part: Compare, types: ColumnTypes) -> Compare:
    kind = check_column(part.column, types)
    if part.operator not in get_args(Operator):
        known = ", ".join(get_args(Operator))
        raise FilterError(f"{part.operator!r} is no operator of filters; known are {known}.")
    if part.operator == "is missing":
        if part.value is not None:
            raise FilterError(f"`{part.column} is missing` takes no value, got {part.value!r}.")
        return part
    if part.operator in _TEXT_ONLY and kind != "string":
        raise FilterError(
            f"`{part.operator}` is for strings, but {part.column} holds {NAMES[kind]}; use =, <, "
            "<=, > or >=."
        )
    if part.operator != "in":
        return Compare(part.column, part.operator, _fit_value(part.column, part.value, kind))
    values = part.value
    if not isinstance(values, tuple | list) or not 0 < len(values) <= MOST_VALUES:
        raise FilterError(f"`{part.column} in` needs a list of 1 to {MOST_VALUES} values.")
    return Compare(part.column, "in", tuple(_fit_value(part.column, v, kind) for v in values))


NAMES: dict[ColumnType, str] = {
    "string": "strings",
    "int": "whole numbers",
    "float": "numbers",
    "bool": "true or false",
    "timestamp": "times",
}


def check_column(name: str, types: ColumnTypes) -> ColumnType:
    """The type of the column `name`.

    Raises:
        FilterError: there is no such column.
    """
    if not isinstance(name, str) or name not in types:
        near = did_you_mean(name, types) or f"its columns are {', '.join(types)}."
        raise FilterError(f"there is no column {name!r} to filter by; {near}")
    return types[name]


def _fit_value(column: str, value: Any, kind: ColumnType) -> ColumnValue:
    if kind == "timestamp" and isinstance(value, str):
        value = read_time(value)
    try:
        found = fit(value, kind)
    except ValueError as error:
        raise FilterError(
            f"{column} holds {NAMES[kind]}, but the filter's value does not fit: {error}."
        ) from None
    if found is None:
        raise FilterError(f"{column} cannot be compared with None; use `{column} is missing`.")
    return found


def read_time(text: str) -> datetime:
    """A date or time of ISO 8601: `2024-05-01`, `2024-05-01T12:30`, with a zone or in UTC.

    Raises:
        FilterError: it is none.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(
            f"{text!r} is no date or time; write 2024-05-01 or 2024-05-01T12:30."
        ) from None
