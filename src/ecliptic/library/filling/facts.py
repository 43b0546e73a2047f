"""The user's columns of a library, from the cells of a table.

CSV holds texts only, so a text becomes what its column holds: a number, true or false, a time.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from ecliptic.errors import ConfigError, ImageError, did_you_mean
from ecliptic.index import ColumnType, ColumnValue, fit, read_text
from ecliptic.library.layout import COLUMNS, HIT


def check_facts(names: tuple[str, ...], columns: Mapping[str, ColumnType]) -> None:
    """Raise ConfigError unless the library has all of these columns."""
    for name in names:
        if name not in columns:
            own = f"its own are {', '.join(columns)}." if columns else "it has none of its own."
            near = did_you_mean(name, columns) or own
            raise ConfigError(
                f"the library has no column {name!r} to fill from a table; {near} Columns are "
                "chosen when a library is made; make another one to have them."
            )


def check_own_columns(columns: Mapping[str, ColumnType]) -> None:
    """Raise ConfigError for a column that every library fills by itself."""
    for name in columns:
        if name in HIT:
            raise ConfigError(f"every hit has its own {name!r}; rename the column {name!r}.")
        if name in COLUMNS:
            raise ConfigError(
                f"every library has a column {name!r} and fills it by itself; rename yours."
            )


def read_facts(
    cells: Mapping[str, Any], columns: Mapping[str, ColumnType]
) -> dict[str, ColumnValue | None]:
    """The values of the cells of one row.

    Raises:
        ImageError: a cell that does not fit its column, so the row is rejected.
    """
    return {name: _read(name, value, columns[name]) for name, value in cells.items()}


def _read(name: str, value: Any, kind: ColumnType) -> ColumnValue | None:
    if value is None or value != value or (value == "" and kind != "string"):  # NaN is not equal
        return None
    try:
        return fit(read_text(value, kind) if isinstance(value, str) else _plain(value), kind)
    except ValueError as error:
        fix = f"; give the column its type, such as {name}:int" if kind == "string" else ""
        raise ImageError(f"its {name} cannot be stored: {error}{fix}.") from None


def _plain(value: Any) -> Any:
    """A value of Parquet as the columns know it: decimals as floats, dates as midnight."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value
