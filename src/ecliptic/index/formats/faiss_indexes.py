"""Reads the vectors of FAISS indexes: Flat, IVF-Flat, HNSW-Flat, and scalar quantisers.

Also inside an IndexIDMap, whose ids they then have, and inside an IndexPreTransform that changes
nothing. The file is mapped where FAISS can do it. N rows, E vector size.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import MissingExtraError, StorageError, printable
from ecliptic.index.formats.faiss_headers import check_faiss_header, lossy, unknown_kind
from ecliptic.index.formats.source import check_vectors

# Files that end in single bytes can be mapped whole. Others may lack up to 7 bytes of their last
# number, and the mapping reader of FAISS 1.15.1 does not notice.
_ENDS_IN_BYTES = ("IxF", "IxSQ", "IHN")
_SEED, _TRIED = 0, 8  # random vectors that a transform must leave as they are
_ROUNDED = {  # scalar quantisers whose vectors are near the originals -> bits of a value
    "QT_8bit": 8,
    "QT_8bit_uniform": 8,
    "QT_8bit_direct": 8,
    "QT_8bit_direct_signed": 8,
    "QT_fp16": 16,
    "QT_bf16": 16,
}
Ids = NDArray[np.int64]


def import_faiss() -> Any:
    """Import `faiss`.

    Raises:
        MissingExtraError: it is not installed, or older than 1.14.
    """
    try:
        with warnings.catch_warnings():  # of SWIG, about its own types
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError:
        raise MissingExtraError("FAISS indexes need faiss; `pip install faiss-cpu`.") from None
    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):
        raise MissingExtraError(
            f"faiss {faiss.__version__} cannot read untrusted files; `pip install -U faiss-cpu`."
        )
    return faiss


@contextmanager
def _limit(faiss: Any, size: int) -> Iterator[None]:
    """Keep FAISS from reserving or counting more than a file of `size` bytes can hold.

    A damaged file else asks for up to a terabyte. The limits are those of the process.
    """
    names = ("deserialization_vector_byte_limit", "deserialization_loop_limit")
    before = {name: getattr(faiss, f"get_{name}")() for name in names}
    try:
        for name in names:
            getattr(faiss, f"set_{name}")(size)
        yield
    finally:
        for name, value in before.items():
            getattr(faiss, f"set_{name}")(value)


def name_for(tool: str, path: Path) -> str:
    """The name of a file as the libraries that open it themselves take it.

    Raises:
        StorageError: it is not UTF-8.
    """
    name = f"{path}"
    try:
        name.encode()
    except UnicodeEncodeError:
        raise StorageError(
            f"{tool} cannot open {printable(name)}, whose name is not UTF-8; rename it."
        ) from None
    return name


class FaissFile:
    """The vectors of an index, in the order of their ids."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._labels: Ids | None = None  # of an IndexIDMap, for the rows of the index inside
        kind = check_faiss_header(path)
        self._faiss = faiss = import_faiss()
        with self._explain(), _limit(faiss, path.stat().st_size):
            mapped = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY  # the lists of an IVF
            flags = faiss.IO_FLAG_MMAP_IFC if kind.startswith(_ENDS_IN_BYTES) else mapped
            self._outer = faiss.read_index(name_for("FAISS", path), flags)
        self._index = self._unwrap(self._outer)  # lives as long as the outer one
        self.rows, self.width = int(self._index.ntotal), int(self._index.d)
        check_vectors(path, (self.rows, self.width), np.dtype(np.float32))

    @cached_property
    def order(self) -> tuple[Ids, Ids]:
        """The ids of the rows, ascending, and the key of each in the index; 16 bytes a row."""
        keys = self._find_keys()
        if self._labels is None:
            return keys, keys
        if len(self._labels) != self.rows or not np.array_equal(keys, np.arange(self.rows)):
            raise self._damaged("its ids are not those of its rows")
        order = np.argsort(self._labels, kind="stable")
        return self._labels[order], keys[order]

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """The vectors of the rows from one to another, in the order of the ids."""
        keys = self.order[1][start:stop]
        with self._explain():
            rows: NDArray[np.float32] = self._index.reconstruct_batch(keys)
        return rows

    def _unwrap(self, index: Any) -> Any:
        """The index that keeps the vectors.

        Raises:
            StorageError: it keeps none, or a transform changed them.
        """
        faiss = self._faiss
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexIDMap) and self._labels is None:  # or an IndexIDMap2
            self._labels = faiss.vector_to_array(index.id_map)
            return self._unwrap(index.index)
        if isinstance(index, faiss.IndexPreTransform):
            self._check_transforms(index)
            return self._unwrap(index.index)
        self._check_kind(index)
        return index

    def _check_kind(self, index: Any) -> None:
        kind = type(index).__name__
        if kind in ("IndexHNSWFlat", "IndexHNSWSQ"):
            self._check_kind(self._faiss.downcast_index(index.storage))
        elif kind in ("IndexScalarQuantizer", "IndexIVFScalarQuantizer"):
            self._check_rounding(index.sq.qtype)
        elif kind not in ("IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexIVFFlat"):
            codes = any(word in kind for word in ("PQ", "Quantizer", "RaBitQ", "LSH"))
            raise (lossy if codes else unknown_kind)(self.path, kind)

    def _check_rounding(self, quantizer: int) -> None:
        known = {getattr(self._faiss.ScalarQuantizer, name): n for name, n in _ROUNDED.items()}
        if quantizer not in known:
            raise lossy(self.path, "values of less than 8 bits")
        if known[quantizer] == 8:
            self.notes.append(
                "the index keeps values of 8 bits, so the vectors are near those it was made from, "
                "not equal."
            )

    def _check_transforms(self, index: Any) -> None:
        random = np.random.default_rng(_SEED)
        for place in range(index.chain.size()):
            step = self._faiss.downcast_VectorTransform(index.chain.at(place))
            rows = random.normal(size=(_TRIED, step.d_in)).astype(np.float32)
            if step.d_out != step.d_in or not np.array_equal(step.apply(rows), rows):
                raise StorageError(
                    f"{self.path} changes vectors before it keeps them ({type(step).__name__}), so "
                    "they do not fit queries any more; read the vectors that it was made from, or "
                    "embed the images again."
                )

    def _find_keys(self) -> Ids:
        """The ids that the index itself has for its rows, ascending."""
        numbers = np.arange(self.rows, dtype=np.int64)
        if not isinstance(self._index, self._faiss.IndexIVF):
            return numbers
        lists, get = self._index.invlists, self._faiss.rev_swig_ptr
        sizes = [lists.list_size(place) for place in range(self._index.nlist)]
        parts = [get(lists.get_ids(place), size).copy() for place, size in enumerate(sizes) if size]
        keys: Ids = np.sort(np.concatenate([numbers[:0], *parts]))
        if len(keys) != self.rows:
            raise self._damaged(f"its lists have {len(keys)} rows, but it tells of {self.rows}")
        if (np.diff(keys) == 0).any():
            raise StorageError(
                f"{self.path} has several vectors of one id, and FAISS can give back only one of "
                "them; read the vectors that it was made from."
            )
        with self._explain():
            if np.array_equal(keys, numbers):
                self._index.make_direct_map()
            else:
                self._index.set_direct_map_type(self._faiss.DirectMap.Hashtable)
        return keys

    def _damaged(self, reason: str) -> StorageError:
        return StorageError(f"{self.path} is damaged ({reason}); write or fetch it again.")

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Raise StorageError where FAISS fails."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            reason = f"{error}".rpartition("failed: ")[2].strip() or type(error).__name__
            raise self._damaged(f"FAISS: {printable(reason)[:200]}") from None
