"""Indexes of other tools that rows are written to: FAISS and usearch.

Both name a row by a whole number, here that of the row from 0.
"""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import MissingExtraError, StorageError
from ecliptic.index.formats.faiss_indexes import import_faiss, name_for
from ecliptic.index.formats.source import BLOCK
from ecliptic.index.schema import RowBlock, StoreSchema

FEWEST = 20_000  # rows of an index with lists; k-means asks for 39 rows a list
_SAMPLED = 64  # rows a list, for k-means; below 39 FAISS warns
_PROBED = 4  # one in so many lists is searched: 0.998 of text queries' neighbours were found


def count_lists(rows: int) -> int:
    """The lists of an index: about 4 * sqrt(N), a power of two; 0 for few rows."""
    return 0 if rows < FEWEST else 1 << int(math.log2(4 * math.sqrt(rows)))


class FaissOutput:
    """A FAISS index for inner products: `IVFn,Flat`, or `Flat` for few rows.

    The lists need a sample of all rows, so vectors wait in a file without a name. The index itself
    is made in memory.
    """

    def __init__(self, draft: Path, schema: StoreSchema) -> None:
        self._faiss = import_faiss()
        self.layout = "FAISS"
        self._draft = name_for("FAISS", draft)
        self._width = schema.width
        self._rows = 0
        self._file = tempfile.TemporaryFile(dir=draft.parent)  # noqa: SIM115 - `close` closes it

    def add(self, block: RowBlock, vectors: NDArray[np.float32]) -> None:
        """Put some rows aside."""
        self._file.write(np.ascontiguousarray(vectors).data)
        self._rows += len(block.ids)

    def finish(self) -> None:
        """Make the index and write it.

        Raises:
            StorageError: FAISS cannot make or write it.
        """
        lists = count_lists(self._rows)
        kind = f"IVF{lists},Flat" if lists else "Flat"
        self.layout = f"FAISS {kind}"
        faiss = self._faiss
        try:
            index = faiss.index_factory(self._width, kind, faiss.METRIC_INNER_PRODUCT)
            if lists:
                index.train(self._sample(lists * _SAMPLED))
                index.nprobe = max(1, lists // _PROBED)
            for rows in self._read():
                index.add(rows)
            faiss.write_index(index, self._draft)
        except (RuntimeError, MemoryError) as error:
            raise StorageError(
                f"FAISS cannot write {self._rows} vectors ({error}); check the free space and "
                "memory, or write .npy."
            ) from None

    def _sample(self, count: int) -> NDArray[np.float32]:
        """Rows from everywhere, the same ones each time."""
        random = np.random.default_rng(0)
        count = min(count, self._rows)
        chosen = np.sort(random.choice(self._rows, count, replace=False))
        parts, start = [], 0
        for rows in self._read():
            first, after = np.searchsorted(chosen, [start, start + len(rows)])
            parts.append(rows[chosen[first:after] - start])
            start += len(rows)
        return np.concatenate(parts)

    def _read(self) -> Iterator[NDArray[np.float32]]:
        self._file.seek(0)
        for start in range(0, self._rows, BLOCK):
            count = min(BLOCK, self._rows - start)
            data = self._file.read(count * self._width * 4)
            yield np.frombuffer(data, np.float32).reshape(count, self._width)

    def close(self) -> None:
        """Remove the file without a name."""
        self._file.close()


class UsearchOutput:
    """A graph of usearch for cosines, with vectors in float16; it is made in memory."""

    def __init__(self, draft: Path, schema: StoreSchema) -> None:
        self.layout = "usearch float16"
        self._draft = name_for("usearch", draft)
        self._rows = 0
        self._index: Any = import_usearch().Index(ndim=schema.width, metric="cos", dtype="f16")

    def add(self, block: RowBlock, vectors: NDArray[np.float32]) -> None:
        """Add some rows to the graph."""
        count = len(block.ids)
        self._index.add(np.arange(self._rows, self._rows + count, dtype=np.uint64), vectors)
        self._rows += count

    def finish(self) -> None:
        """Write the graph.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self._index.save(self._draft)
        except RuntimeError as error:
            raise StorageError(
                f"usearch cannot write its graph ({error}); check the free space."
            ) from None

    def close(self) -> None:
        """Give the memory back."""
        self._index = None


def import_usearch() -> Any:
    """Import `usearch.index`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import usearch.index
    except ImportError:
        raise MissingExtraError("graphs of usearch need it; `pip install usearch`.") from None
    return usearch.index
