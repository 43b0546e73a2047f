"""`StoreSchema`: what a store holds, and `RowBlock`: some of its rows.

N rows, E vector size.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import check_count
from ecliptic.errors import ConfigError
from ecliptic.index.columns import ID, ColumnType, ColumnValue, check_column_types

WIDEST = 1 << 14  # values of a vector, 16,384
StoreRow = dict[str, ColumnValue | None]  # one item: its id and its columns


@dataclass(frozen=True)
class StoreSchema:
    """What a store holds; fixed when it is made."""

    width: int  # E
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)  # of its maker, such as the model

    def __post_init__(self) -> None:
        check_count("width", self.width)
        if self.width > WIDEST:
            raise ConfigError(f"width must be at most {WIDEST}, got {self.width}.")
        check_column_types(self.columns)
        if not all(isinstance(part, str) for fact in self.facts.items() for part in fact):
            raise ConfigError(f"facts must be strings with names, got {dict(self.facts)!r}.")


@dataclass(frozen=True)
class RowBlock:
    """Some rows of a store."""

    ids: tuple[str, ...]
    columns: dict[str, list[ColumnValue | None]]
    vectors: NDArray[np.float32] | None = None  # (N, E), if they were asked for

    def rows(self) -> list[StoreRow]:
        """The rows, each with its id and its columns."""
        names = [ID, *self.columns]
        values = zip(self.ids, *self.columns.values(), strict=True)
        return [dict(zip(names, row, strict=True)) for row in values]
