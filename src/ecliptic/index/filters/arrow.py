"""Filters on columns of pyarrow: the rows that pass, as a mask.

The columns are compared with typed values; no text of a filter goes to an engine.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.columns import ID, ColumnTypes, arrow_type
from ecliptic.index.filters.tree import And, Compare, Filter, Not


def columns_of(tree: Filter) -> set[str]:
    """The columns that a filter compares."""
    return {part.column for part in _comparisons(tree)}


def _comparisons(tree: Filter) -> Iterator[Compare]:
    if isinstance(tree, Compare):
        yield tree
    elif isinstance(tree, Not):
        yield from _comparisons(tree.part)
    else:
        for part in tree.parts:
            yield from _comparisons(part)


def passing(tree: Filter, columns: Mapping[str, Any], types: ColumnTypes) -> NDArray[np.bool_]:
    """Which rows pass a filter that `check_filter` gave.

    Args:
        tree: the filter.
        columns: arrays of pyarrow of N values, for each column of the tree.
        types: of the store's columns.

    Returns:
        (N,) truth values.
    """
    if isinstance(tree, Not):
        return ~passing(tree.part, columns, types)
    if isinstance(tree, Compare):
        kind = "string" if tree.column == ID else types[tree.column]
        return _compare(tree, columns[tree.column], arrow_type(kind))
    join = np.logical_and if isinstance(tree, And) else np.logical_or
    found = passing(tree.parts[0], columns, types)
    for part in tree.parts[1:]:
        join(found, passing(part, columns, types), out=found)
    return found


def _compare(part: Compare, values: Any, kind: Any) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if part.operator == "is missing":
        mask = pc.is_null(values)
    elif part.operator == "in":
        mask = pc.is_in(values, value_set=pa.array(part.value, kind))
    elif part.operator == "contains":
        mask = pc.match_substring(values, part.value)
    elif part.operator == "starts with":
        mask = pc.starts_with(values, part.value)
    else:
        names = {"=": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal"}
        names |= {">": "greater", ">=": "greater_equal"}
        test: Callable[[Any, Any], Any] = getattr(pc, names[part.operator])
        mask = test(values, pa.scalar(part.value, kind))
    found: NDArray[np.bool_] = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return found.copy()
