"""What a store asks its engine for, after everything was checked.

Q queries, E vector size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecliptic.index.filters.tree import Filter


@dataclass(frozen=True)
class SearchRequest:
    """The rows nearest to some queries; see `Store.search`."""

    queries: NDArray[np.float32]  # (Q, E) of unit length
    k: int
    tree: Filter | None
    columns: tuple[str, ...]  # to give with the hits
    exact: bool


@dataclass(frozen=True)
class ReadRequest:
    """Rows by their ids, or those that pass a filter, or all; see `Store.read`."""

    ids: tuple[str, ...] | None
    tree: Filter | None
    columns: tuple[str, ...]
    vectors: bool
