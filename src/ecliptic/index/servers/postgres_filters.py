"""Filters as conditions of SQL: values are parameters, names are quoted by psycopg.

The logic has two values as in `filters/tree.py`: each comparison also asks that the value is there,
so none is NULL, and NOT is the plain opposite.
"""

from typing import Any, LiteralString

from ecliptic.index.columns import ID, ColumnType, ColumnTypes
from ecliptic.index.filters.tree import And, Compare, Filter, Not
from ecliptic.index.servers.postgres_driver import sql

TYPES: dict[ColumnType, LiteralString] = {
    "string": "text",
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
    "timestamp": "timestamp",
}
_TESTS: dict[str, LiteralString] = {
    "=": "{column} = {value}",
    "!=": "{column} <> {value}",
    "<": "{column} < {value}",
    "<=": "{column} <= {value}",
    ">": "{column} > {value}",
    ">=": "{column} >= {value}",
    "in": "{column} = ANY({value})",
    "contains": "strpos({column}, {value}) > 0",
    "starts with": "starts_with({column}, {value})",
}
_SYSTEM = frozenset(("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"))
Condition = tuple[sql.Composable, list[Any]]  # the SQL, and its parameters in their order


def name_column(column: str) -> sql.Identifier:
    """The name of a column in SQL: its own, or `_ctid` where PostgreSQL has a `ctid` itself."""
    return sql.Identifier(f"_{column}" if column in _SYSTEM else column)


def filter_to_sql(tree: Filter | None, columns: ColumnTypes) -> Condition:
    """The condition that means the same as a filter that `check_filter` gave; None fits all."""
    if tree is None:
        return sql.SQL("TRUE"), []
    if isinstance(tree, Compare):
        return _compile_comparison(tree, {ID: "string", **columns}[tree.column])
    if isinstance(tree, Not):
        part, values = filter_to_sql(tree.part, columns)
        return sql.SQL("NOT ({})").format(part), values
    compiled = [filter_to_sql(part, columns) for part in tree.parts]
    word = sql.SQL(") AND (" if isinstance(tree, And) else ") OR (")
    joined = word.join(part for part, _ in compiled)
    return sql.SQL("(({}))").format(joined), [value for _, values in compiled for value in values]


def _compile_comparison(part: Compare, kind: ColumnType) -> Condition:
    column = name_column(part.column)
    if part.operator == "is missing":
        return sql.SQL("{} IS NULL").format(column), []
    many: LiteralString = "[]" if part.operator == "in" else ""
    value = sql.SQL("%s::" + TYPES[kind] + many)
    test = sql.SQL(_TESTS[part.operator]).format(column=column, value=value)
    given = list(part.value) if isinstance(part.value, tuple) else part.value
    return sql.SQL("({} IS NOT NULL AND {})").format(column, test), [given]
