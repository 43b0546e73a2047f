"""Lists of rows: those near one centre stand together, so a search can look at a part of a map.

A map is grouped when a table has millions of rows. The centres are those of k-means on a sample
(Lloyd 1982); a query looks into the lists whose centres have the largest products with it, until
they hold a quarter of the rows. L lists, N rows, E vector size, Q queries.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.errors import EclipticError, StorageError
from ecliptic.storage import make_folder, read_safetensors, replace_file, write_safetensors

NAME = "lists.safetensors"
COUNT = 256  # lists
SAMPLE = 128 * COUNT  # rows that the centres are found from
SHARE = 0.25  # of the rows, in the lists that a query looks into
_GROWTH = 2  # times the rows, for which lists are made anew
_ROUNDS = 10  # of k-means
_AT_ONCE = 1 << 15  # rows that are assigned together


@dataclass(frozen=True)
class RowLists:
    """The centres of lists."""

    centres: Tensor  # (L, E) float32

    @cached_property
    def key(self) -> str:
        """What tells these lists from others."""
        data = self.centres.contiguous().numpy().tobytes()
        return hashlib.sha256(data).hexdigest()[:32]

    def assign(self, vectors: Tensor) -> Tensor:
        """(N,) int64, the list of each of (N, E) rows: that of the nearest centre."""
        halves = self.centres.square().sum(1) / 2  # (L,)
        starts = range(0, len(vectors), _AT_ONCE)
        parts = [
            (vectors[start : start + _AT_ONCE] @ self.centres.T - halves).argmax(1)
            for start in starts
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def choose(self, query: Tensor, sizes: Tensor) -> Tensor:
        """Numbers of the lists, ascending, that a query looks into.

        Args:
            query: (E,).
            sizes: (L,) rows in each list.
        """
        order = (self.centres @ query).argsort(descending=True)
        reached = sizes[order].cumsum(0)
        count = int((reached < SHARE * float(sizes.sum())).sum()) + 1
        return order[:count].sort().values


def find_lists(sample: Tensor, count: int = COUNT) -> RowLists:
    """The centres of `count` lists, or of fewer if there are fewer rows in the (n, E) sample."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randperm(len(sample), generator=generator)[:count]
    lists = RowLists(sample[first].clone())
    for _ in range(_ROUNDS):
        own = lists.assign(sample)
        sums = torch.zeros_like(lists.centres).index_add_(0, own, sample)
        counts = own.bincount(minlength=len(lists.centres))[:, None]
        lists = RowLists(torch.where(counts > 0, sums / counts.clamp(min=1), lists.centres))
    return lists


def open_lists(folder: Path, width: int, rows: int, make: Callable[[], RowLists]) -> RowLists:
    """The lists of a table, from its folder of codes; made and written if there are none.

    They are made anew when the table has twice the `rows` that it had, whose content may differ.
    """
    path = folder / NAME
    found = _read(path, width, rows)
    if found is not None:
        return found
    lists = make()
    try:
        make_folder(folder)
        tensors = {"centres": lists.centres.contiguous()}
        about = {"key": lists.key, "rows": str(rows)}
        replace_file(path, partial(write_safetensors, tensors=tensors, metadata=about))
    except StorageError:  # it may only be read: they stay in memory
        return lists
    return _read(path, width, rows) or lists


def _read(path: Path, width: int, rows: int) -> RowLists | None:
    try:
        file = read_safetensors(path)
        if rows >= _GROWTH * int(file.metadata["rows"]):
            return None
        lists = RowLists(file.tensors["centres"].clone())
    except (EclipticError, OSError, KeyError, ValueError):
        return None
    centres = lists.centres
    fits = centres.ndim == 2 and centres.shape[1] == width and centres.dtype == torch.float32
    return lists if fits and file.metadata.get("key") == lists.key else None
