"""What a filter means: whether one row, as Python values, passes it.

The engines have faster ways; this is the definition that they are tested against.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from ecliptic.index.columns import ColumnValue
from ecliptic.index.filters.tree import And, Compare, Filter, Not

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, values: value in values,
    "contains": lambda value, part: part in value,
    "starts with": lambda value, start: value.startswith(start),
}


def matches(tree: Filter, row: Mapping[str, ColumnValue | None]) -> bool:
    """Whether `row` passes a filter that `check_filter` gave."""
    if isinstance(tree, Not):
        return not matches(tree.part, row)
    if isinstance(tree, Compare):
        value = row[tree.column]
        if tree.operator == "is missing":
            return value is None
        return value is not None and _TESTS[tree.operator](value, tree.value)
    test = all if isinstance(tree, And) else any
    return test(matches(part, row) for part in tree.parts)
