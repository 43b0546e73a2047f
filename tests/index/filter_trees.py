"""Strategies of hypothesis: trees of filters, and rows to which they apply."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from ecliptic.index import And, ColumnType, Compare, Filter, Not, Or

TYPES: dict[str, ColumnType] = {
    "name": "string",
    "size": "int",
    "rate": "float",
    "kept": "bool",
    "taken": "timestamp",
}
KINDS: dict[str, ColumnType] = {"id": "string", **TYPES}
_ORDERED = ["=", "!=", "<", "<=", ">", ">=", "in"]
_ODD = [
    "", "and", "NOT", "missing", "in", "a b", '"', "'", "\\", '\\"', "a\\", "é", "e\u0301", "É",
    "; drop table x", "1' or '1'='1", "%", "_", ".*", "日本", "😀", "\u202e", "\n", "(", "<=", "=",
    "true", "12", "2024-01-01", "a" * 300,
]  # fmt: skip
_EDGES = [-(1 << 63), (1 << 63) - 1, 0, -1, 1, 1 << 53, (1 << 53) + 1]
_TINY = [0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, 0.1, 1.0, 2.5, float(1 << 53)]
_TIMES = [
    datetime.min,
    datetime.max,
    datetime(1970, 1, 1),
    datetime(1969, 12, 31, 23, 59, 59, 999999),
    datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2024, 2, 29, 6, 45),  # the same moment
]
TEXTS = st.sampled_from(_ODD) | st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=4
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": TEXTS,
    "int": st.sampled_from(_EDGES) | st.integers(-3, 3),
    "float": st.sampled_from(_TINY)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-3, 3),
    "bool": st.booleans(),
    "timestamp": st.sampled_from(_TIMES) | st.datetimes(),
}


@st.composite
def comparisons(draw: st.DrawFn) -> Compare:
    """One comparison of any column."""
    column = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[column]
    texts = ["contains", "starts with"] if kind == "string" else []
    operator = draw(st.sampled_from([*_ORDERED, "is missing", *texts]))
    if operator == "is missing":
        return Compare(column, "is missing")
    if operator == "in":
        return Compare(column, "in", tuple(draw(st.lists(VALUES[kind], min_size=1, max_size=4))))
    return Compare(column, operator, draw(VALUES[kind]))


def _join(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    some = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return parts.map(Not) | some.map(And) | some.map(Or)


TREES: st.SearchStrategy[Filter] = st.recursive(comparisons(), _join, max_leaves=8)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": TEXTS.filter(bool),
            **{name: st.none() | VALUES[kind] for name, kind in TYPES.items()},
        }
    ),
    max_size=8,
)
