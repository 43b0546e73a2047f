"""Filters as Qdrant's conditions, where they mean the same; all else is refused with its name.

Nothing is sifted again after the server: a filter that passes few rows would read them all for one
answer, and `delete` could not use it. So these are refused: an order of strings, and an order of
whole numbers beyond 2^53, which Qdrant compares as floats. A missing value fits no condition of
Qdrant, and `must_not` is the plain opposite, as in `filters/tree.py`. A float is compared by its
two halves of `qdrant_rows.py`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from ecliptic.errors import FilterError
from ecliptic.index.columns import ID, ColumnType, ColumnTypes, ColumnValue
from ecliptic.index.filters.matching import matches
from ecliptic.index.filters.tree import And, Compare, Filter, Not
from ecliptic.index.servers.qdrant_driver import models
from ecliptic.index.servers.qdrant_rows import name_halves, split_float

Version = tuple[int, ...]  # of the server
_SINCE: dict[str, Version] = {"starts with": (1, 19), "contains": (1, 20)}
_EXACT = 1 << 53  # whole numbers below are exact as floats
_BOUNDS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def filter_to_qdrant(tree: Filter, columns: ColumnTypes, version: Version) -> models.Filter:
    """The filter of Qdrant that means the same as a filter that `check_filter` gave.

    Raises:
        FilterError: this server has nothing that means the same.
    """
    if isinstance(tree, Compare):
        kind = {ID: "string", **columns}[tree.column]
        return models.Filter(must=[_translate(tree, kind, version)])
    if isinstance(tree, Not):
        return models.Filter(must_not=[filter_to_qdrant(tree.part, columns, version)])
    parts: list[Any] = [filter_to_qdrant(part, columns, version) for part in tree.parts]
    return models.Filter(must=parts) if isinstance(tree, And) else models.Filter(should=parts)


def _translate(part: Compare, kind: ColumnType, version: Version) -> models.Condition:
    key, value = part.column, part.value
    field = models.PayloadField(key=name_halves(key)[0] if kind == "float" else key)
    missing = models.IsEmptyCondition(is_empty=field)
    if part.operator == "is missing":
        return missing
    if part.operator == "!=":
        same = _translate(Compare(key, "=", value), kind, version)
        return models.Filter(must_not=[missing, same])
    if kind == "bool":
        return _either_of(_match(key, flag) for flag in (False, True) if matches(part, {key: flag}))
    if part.operator == "in":
        return _is_in(key, cast(tuple[ColumnValue, ...], value), kind)
    if part.operator == "=":
        return _equals(key, value, kind)
    if part.operator in _SINCE:
        return _match_part(part, missing, version)
    return _order(part, kind)


def _either_of(conditions: Any) -> models.Filter:
    """One of the conditions; if there are none, no row passes, because each row has an id."""
    known = list(conditions)
    no_id = models.IsEmptyCondition(is_empty=models.PayloadField(key=ID))
    return models.Filter(should=known) if known else models.Filter(must=[no_id])


def _match(key: str, value: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _equals(key: str, value: Any, kind: ColumnType) -> models.Condition:
    if kind == "float":
        halves = zip(name_halves(key), split_float(value), strict=True)
        return models.Filter(must=[_match(*half) for half in halves])
    return _match(key, value) if kind != "timestamp" else _range(key, gte=value, lte=value)


def _is_in(key: str, values: tuple[ColumnValue, ...], kind: ColumnType) -> models.Condition:
    if kind in ("string", "int"):
        return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))  # type: ignore[arg-type]
    return _either_of(_equals(key, value, kind) for value in values)


def _match_part(
    part: Compare, missing: models.IsEmptyCondition, version: Version
) -> models.Condition:
    least = _SINCE[part.operator]
    if version < least:
        raise FilterError(
            f"`{part.column} {part.operator}` needs Qdrant {_show(least)} or newer, and this "
            f"server is {_show(version)}; upgrade the server, or filter by = or in."
        )
    if not part.value:  # every string has the empty one in it
        return models.Filter(must_not=[missing])
    make: Callable[[Any], Any] = _PARTS[part.operator]
    return models.FieldCondition(key=part.column, match=make(part.value))


_PARTS: dict[str, Callable[[Any], Any]] = {
    "starts with": lambda text: models.MatchPrefix(prefix=text),
    "contains": lambda text: models.MatchSubstring(substring=text),
}


def _show(version: Version) -> str:
    return ".".join(map(str, version))


def _order(part: Compare, kind: ColumnType) -> models.Condition:
    value = part.value
    if isinstance(value, float):
        return _order_float(part.column, part.operator, value)
    if kind == "string":
        raise FilterError(
            f"Qdrant has no order of strings, so `{part.column} {part.operator}` cannot be "
            "answered; use =, in, starts with or contains."
        )
    if isinstance(value, int) and abs(value) >= _EXACT:
        raise FilterError(
            f"Qdrant compares whole numbers as floats, so `{part.column} {part.operator} {value}` "
            f"is not exact; use =, or a value below {_EXACT}."
        )
    return _range(part.column, **{_BOUNDS[part.operator]: value})


def _order_float(column: str, operator: str, value: float) -> models.Filter:
    """The high half decides; where it is equal, the low one does."""
    (high_key, low_key), (high, low) = name_halves(column), split_float(value)
    sooner = _range(high_key, **{_BOUNDS[operator[0]]: high})
    tied: list[Any] = [_match(high_key, high), _range(low_key, **{_BOUNDS[operator]: low})]
    return models.Filter(should=[sooner, models.Filter(must=tied)])


def _range(key: str, **bounds: Any) -> models.FieldCondition:
    if isinstance(next(iter(bounds.values())), datetime):
        times = {name: time.replace(tzinfo=UTC) for name, time in bounds.items()}
        return models.FieldCondition(key=key, range=models.DatetimeRange(**times))
    return models.FieldCondition(key=key, range=models.Range(**bounds))
