"""Columns of Parquet files as columns of rows: types, names and values.

A store has strings, whole numbers, floats, truth values and times. Dates become times. NaN is a
missing value, as pandas writes it. Lists, structs, bytes, decimals and what else a store has no
type for are left out, and a note names them; a column that is asked for is never left out.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from ecliptic.errors import MissingColumnError, StorageError, did_you_mean, printable
from ecliptic.index.columns import (
    ID,
    KEYWORDS,
    MOST_COLUMNS,
    VECTOR,
    ColumnType,
    ColumnTypes,
    ColumnValue,
)

_EMPTY = "null"  # the type of a column without a value, as pandas writes it
_PANDAS_INDEX = "__index_level_"
_LONGEST = 63  # characters of a name


@dataclass(frozen=True)
class TableColumns:
    """The columns that are read."""

    types: ColumnTypes  # by the name in the rows
    origins: Mapping[str, str]  # name in the rows -> name in the file
    notes: tuple[str, ...]


def kind_of(pa: Any, kind: Any) -> str:
    """The type of a column: a `ColumnType`, "null", or the Arrow type of what cannot be one."""
    types = pa.types
    if types.is_dictionary(kind):
        return kind_of(pa, kind.value_type)
    tests = {
        "bool": types.is_boolean,
        "int": types.is_integer,
        "float": types.is_floating,
        "string": lambda t: (
            types.is_string(t) or types.is_large_string(t) or str(t) == "string_view"
        ),
        "timestamp": lambda t: types.is_timestamp(t) or types.is_date(t),
        _EMPTY: types.is_null,
    }
    return next((name for name, test in tests.items() if test(kind)), str(kind))


def merge_schemas(pa: Any, schemas: Mapping[Path, Any], skipped: Collection[str]) -> dict[str, str]:
    """Name -> type (as `kind_of`) of the columns of files that are parts of one table.

    A column that is empty in one part has the type of the others; whole numbers beside floats are
    floats, as pandas writes numbers with gaps.

    Raises:
        StorageError: a column has two types, or a file has two columns of one name.
    """
    found: dict[str, tuple[str, Path]] = {}
    for path, schema in schemas.items():
        for field in schema:
            if schema.names.count(field.name) > 1:
                raise StorageError(
                    f"{path} has the column {field.name!r} {schema.names.count(field.name)} times; "
                    "rename all but one."
                )
            if field.name not in skipped:
                one = (kind_of(pa, field.type), path)
                found[field.name] = _join(field.name, found.get(field.name, one), one)
    return {name: kind for name, (kind, _) in found.items()}


def _join(name: str, first: tuple[str, Path], second: tuple[str, Path]) -> tuple[str, Path]:
    """The type of a column that has these in two files, and the file it is from."""
    if first[0] == _EMPTY:
        return second
    if second[0] in (_EMPTY, first[0]):
        return first
    if {first[0], second[0]} == {"int", "float"}:
        return "float", second[1]
    raise StorageError(
        f"the column {name!r} is {first[0]} in {first[1]}, but {second[0]} in {second[1]}; name "
        "the columns to read without it, or write it with one type."
    )


def choose_columns(
    where: object, kinds: Mapping[str, str], wanted: Sequence[str] | None
) -> TableColumns:
    """The columns of a table that become columns of rows.

    Args:
        where: the table, for messages.
        kinds: of all its columns but the ids and the vectors, as of `merge_schemas`.
        wanted: the names in the file; None for all that a store has types for.

    Raises:
        MissingColumnError: a wanted column is not there.
        StorageError: a wanted column has another type, or there are more than a store may have.
    """
    types: dict[str, ColumnType] = {}
    origins: dict[str, str] = {}
    notes = []
    for name in kinds if wanted is None else dict.fromkeys(wanted):
        kind = _find(where, name, kinds)
        if name.startswith(_PANDAS_INDEX) and wanted is None:
            notes.append(f"the column {name!r} is left out: it is the index of pandas.")
        elif kind not in get_args(ColumnType):
            reason = "no row has a value" if kind == _EMPTY else f"a store has no type for {kind}"
            if wanted is not None:
                raise StorageError(
                    f"the column {name!r} of {where} cannot be read: {reason}; do not name it."
                )
            notes.append(f"the column {name!r} is left out: {reason}.")
        else:
            new = allowed_name(name, types)
            types[new], origins[new] = kind, name  # type: ignore[assignment] # it was looked up
            if new != name:
                notes.append(f"the column {name!r} is called {new!r}.")
    if len(types) > MOST_COLUMNS:
        raise StorageError(
            f"{where} has {len(types)} columns, but a store at most {MOST_COLUMNS}; name those to "
            "read."
        )
    return TableColumns(types, origins, tuple(notes))


def _find(where: object, name: str, kinds: Mapping[str, str]) -> str:
    if name not in kinds:
        near = did_you_mean(name, kinds) or f"its columns: {', '.join(kinds) or 'none'}."
        raise MissingColumnError(f"{where} has no column {name!r} to read; {near}", header=kinds)
    return kinds[name]


def allowed_name(name: str, taken: Collection[str]) -> str:
    """A name that a column of a store may have and none of `taken` is, as near as may be."""
    plain = re.sub("[^a-z0-9_]", "_", name.lower()).lstrip("_")
    plain = plain if plain[:1].isalpha() else f"column_{plain}".rstrip("_")
    plain = plain[:_LONGEST]
    if plain in KEYWORDS or plain in (ID, VECTOR):
        plain += "_"
    number = 2
    free = plain
    while free in taken:
        free = f"{plain[: _LONGEST - 6]}_{number}"
        number += 1
    return free


def read_values(
    pa: Any, where: object, name: str, array: Any, kind: ColumnType
) -> list[ColumnValue | None]:
    """The values of a column as `fit` takes them; NaN is a missing value.

    Raises:
        StorageError: text that is not UTF-8, or a time before the year 1 or after 9999.
    """
    try:
        if kind == "timestamp":  # without a zone, in UTC
            return array.cast(pa.timestamp("us"), safe=False).to_pylist()  # type: ignore[no-any-return]
        if kind != "float":
            return array.to_pylist()  # type: ignore[no-any-return]
        values = array.cast(pa.float64(), safe=False).to_pylist()
        return [None if value != value else value for value in values]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise StorageError(
            f"the column {name!r} of {where} cannot be read: {printable(str(error))[:200]}; name "
            "the columns to read without it."
        ) from None


def read_ids(pa: Any, where: object, name: str, array: Any) -> tuple[str, ...]:
    """The values of the column of ids; a missing one is "", which a store refuses by row."""
    values: Iterable[Any] = read_values(pa, where, name, array, "string")
    return tuple("" if value is None else str(value) for value in values)
