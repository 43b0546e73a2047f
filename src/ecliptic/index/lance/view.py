"""A table at one version: its codes, the rows that were deleted, and the columns of filters.

A row has a place (fragment, offset in its data file) and a position, its number among the rows that
are there. N rows, E vector size, Q queries.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.index.codes.coding import CodedQueries, Codes, code_rows
from ecliptic.index.codes.files import open_codes
from ecliptic.index.codes.lists import SAMPLE, RowLists, find_lists, open_lists
from ecliptic.index.columns import ID, VECTOR, ColumnTypes
from ecliptic.index.filters.arrow import columns_of, passing
from ecliptic.index.filters.parsing import print_filter
from ecliptic.index.filters.tree import Filter
from ecliptic.index.lance.conversion import matrix
from ecliptic.index.lance.table import data_file, deletion_file

_AT_ONCE = 8192  # rows that are read together
_FILTERS = 16  # masks that are kept
_COLUMN_BYTES = 256 << 20  # of columns that are kept in memory, all together
GROUPED_FROM = 2_000_000  # rows of a table whose codes are grouped by lists
_FEW = 0.2  # of the rows of a segment; so few are scored one by one, not all together


@dataclass
class TableSegment:
    """The rows of one data file."""

    name: str  # of the data file
    fragment: Any  # of Lance
    start: int  # position of its first row
    live: int  # rows that are there
    folder: Path  # of the codes
    lists: RowLists | None  # that the codes must have; None for any or none

    @cached_property
    def alive(self) -> NDArray[np.bool_] | None:
        """Which rows of the file are there, by offset; None for all."""
        if self.fragment.metadata.deletion_file is None:
            return None
        alive = np.zeros(self.fragment.physical_rows, dtype=np.bool_)
        alive[_offsets(self.fragment.scanner(columns=[], with_row_address=True).to_table())] = True
        return alive

    @cached_property
    def codes(self) -> Codes:
        """The codes of the rows."""
        rows = self.fragment.physical_rows
        return open_codes(self.folder, self.name, rows, self._make_codes, self._has_all)

    def _has_all(self, codes: Codes) -> bool:
        """Whether each row has a code, in the lists that are asked for.

        A row that was deleted before the codes were made has none, and `repair` may go back to a
        version in which it is there.
        """
        if self.lists is not None and codes.lists != self.lists.key:
            return False
        found = len(codes) if self.alive is None else self.alive[codes.offsets.numpy()].sum()
        return bool(found == self.live)

    def take_over(self, known: "TableSegment") -> None:
        """Take what was found about the same data file at another version."""
        cached, found = vars(known), list[str]()
        same_lists = (known.lists and known.lists.key) == (self.lists and self.lists.key)
        if same_lists and deletion_file(known.fragment) == deletion_file(self.fragment):
            found = ["codes", "alive", "live_codes", "places"]
        elif "codes" in cached and self._has_all(known.codes):
            found = ["codes"]
        vars(self).update({name: cached[name] for name in found if name in cached})

    def _make_codes(self) -> Codes:
        scanner = self.fragment.scanner(
            columns=[VECTOR], with_row_address=True, batch_size=_AT_ONCE
        )
        width = scanner.projected_schema.field(VECTOR).type.list_size
        vectors, offsets = torch.empty(self.live, width), torch.empty(self.live, dtype=torch.int32)
        start = 0
        for batch in scanner.to_batches():
            end = start + len(batch)
            vectors[start:end] = torch.from_numpy(matrix(batch[VECTOR]).copy())
            offsets[start:end] = torch.from_numpy(_offsets(batch).astype(np.int32))
            start = end
        return code_rows(vectors, offsets, self.lists)

    @cached_property
    def live_codes(self) -> Tensor | None:
        """(n,) which codes are of rows that are there; None for all."""
        if self.alive is None:
            return None
        return torch.from_numpy(self.alive)[self.codes.offsets.long()]

    @cached_property
    def places(self) -> Tensor:
        """(n,) for each code the position of its row in this segment; any for deleted rows."""
        offsets = self.codes.offsets.long()
        if self.alive is None:
            return offsets
        return torch.from_numpy(np.cumsum(self.alive) - 1)[offsets]

    def score_lists(self, queries: CodedQueries, chosen: Tensor) -> Tensor:
        """(Q, n) scores of the rows in some lists; minus infinity for all others."""
        scores = self.codes.score_lists(queries, chosen)
        if self.live_codes is None:
            return scores
        return scores.masked_fill_(~self.live_codes, -torch.inf)

    def score(self, queries: CodedQueries, mask: NDArray[np.bool_] | None) -> Tensor:
        """(Q, n) scores by the codes; minus infinity for rows that are not there or filtered out.

        `mask` tells which rows pass, by position in this segment.
        """
        keep = self.live_codes
        if mask is not None:
            passes = torch.from_numpy(mask)[self.places.clamp(min=0)]
            keep = passes if keep is None else keep & passes
        if keep is None:
            return self.codes.score(queries)
        rows = keep.nonzero()[:, 0]
        if len(rows) < _FEW * len(keep):
            scores = torch.full((len(queries), len(keep)), -torch.inf)
            scores[:, rows] = self.codes.score(queries, rows)
            return scores
        return self.codes.score(queries).masked_fill_(~keep, -torch.inf)


def _offsets(table: Any) -> NDArray[np.uint64]:
    """The offsets in their data file of rows that were read with their addresses."""
    addresses: NDArray[np.uint64] = table["_rowaddr"].to_numpy()
    return addresses & np.uint64(0xFFFFFFFF)


class View:
    """A table at one version."""

    def __init__(
        self, dataset: Any, types: ColumnTypes, codes: Path, before: "View | None" = None
    ) -> None:
        """Look at the newest version; what did not change is taken from the view `before`."""
        self.dataset = dataset
        self.version = dataset.version
        self.types = types
        fragments = dataset.get_fragments()
        self.rows = sum(fragment.count_rows() for fragment in fragments)
        self.lists = self._open_lists(codes) if self.rows >= GROUPED_FROM else None
        self.segments = list(_segments(fragments, codes, self.lists, before))
        self._columns: dict[str, Any] = {}  # of pyarrow
        self._masks: dict[str, NDArray[np.bool_]] = {}  # by the text of the filter

    def _open_lists(self, codes: Path) -> RowLists:
        width = self.dataset.schema.field(VECTOR).type.list_size

        def make() -> RowLists:
            step = max(1, self.rows // SAMPLE)
            table = self.dataset.take(list(range(0, self.rows, step)), columns=[VECTOR])
            return find_lists(torch.from_numpy(matrix(table[VECTOR]).copy()))

        return open_lists(codes, width, self.rows, make)

    def score_near(self, queries: CodedQueries) -> tuple[Tensor, float]:
        """Scores of the rows in the lists near one query, and the part of the rows that they have.

        The scores are (1, n); those of all other rows are minus infinity.
        """
        assert self.lists is not None
        parts = [segment.codes.starts.diff() for segment in self.segments]
        sizes = torch.stack(parts).sum(0)  # (L,)
        chosen = self.lists.choose(queries.vectors[0], sizes)
        scores = [segment.score_lists(queries, chosen) for segment in self.segments]
        return torch.cat(scores, 1), float(sizes[chosen].sum()) / float(sizes.sum())

    def mask(self, tree: Filter) -> NDArray[np.bool_]:
        """(N,) which rows pass a filter, by position."""
        key = print_filter(tree)
        mask = self._masks.get(key)
        if mask is None:
            mask = passing(tree, self._load(columns_of(tree)), self.types)
            recent = list(self._masks.items())[-_FILTERS + 1 :]
            self._masks = {**dict(recent), key: mask}
        return mask

    def mask_of_ids(self, ids: tuple[str, ...]) -> NDArray[np.bool_]:
        """(N,) which rows have one of these ids, by position."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self._load({ID})[ID]
        found: NDArray[np.bool_] = pc.is_in(column, value_set=pa.array(ids, pa.string())).to_numpy()
        return found

    def _load(self, names: set[str]) -> dict[str, Any]:
        """Columns; as many as fit stay in memory while the table has this version."""
        found = {name: self._columns[name] for name in names & self._columns.keys()}
        if new := sorted(names - found.keys()):
            table = self.dataset.to_table(columns=new)
            found |= {name: table[name] for name in new}
        kept = {**found, **self._columns}  # those in use first
        ends = np.cumsum([column.nbytes for column in kept.values()])
        self._columns = dict(islice(kept.items(), int((ends <= _COLUMN_BYTES).sum())))
        return found

    def score(self, queries: CodedQueries, mask: NDArray[np.bool_] | None) -> Tensor:
        """(Q, n) scores of all codes, in the order of the segments."""
        parts = [
            segment.score(queries, None if mask is None else mask[segment.start :][: segment.live])
            for segment in self.segments
        ]
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts, 1) if parts else torch.empty(len(queries), 0)

    def positions(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of rows by their numbers among all codes, which are in ascending order."""
        ends = np.cumsum([len(segment.codes) for segment in self.segments])
        found = []
        for segment, end in zip(self.segments, ends, strict=True):
            first = end - len(segment.codes)
            low, high = np.searchsorted(codes, (first, end))
            if low < high:
                found.append(segment.start + segment.places.numpy()[codes[low:high] - first])
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def every_place(self) -> NDArray[np.int64]:
        """(n,) for each code the position of its row; -1 for deleted rows."""
        found = []
        for segment in self.segments:
            places = segment.start + segment.places.numpy()
            if segment.live_codes is not None:
                places = np.where(segment.live_codes.numpy(), places, -1)
            found.append(places)
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def take(self, positions: NDArray[np.int64], columns: list[str]) -> Any:
        """Rows by position, in this order: a table of pyarrow with their ids and `columns`."""
        return self.dataset.take(positions.tolist(), columns=[ID, *columns])


def _segments(
    fragments: Iterable[Any], codes: Path, lists: RowLists | None, before: View | None
) -> Iterator[TableSegment]:
    old = {segment.name: segment for segment in before.segments} if before else {}
    start = 0
    for fragment in fragments:
        live = fragment.count_rows()
        segment = TableSegment(data_file(fragment), fragment, start, live, codes, lists)
        if known := old.get(segment.name):
            segment.take_over(known)
        yield segment
        start += live
