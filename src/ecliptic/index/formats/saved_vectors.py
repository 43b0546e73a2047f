"""Reads what `save_vectors` and `ecliptic embed` write, and the fingerprints in it.

`.npy` with a sidecar `.npy.json`, `.safetensors`, or Parquet with the fingerprints in its metadata.
The checksum of rows, ids and fingerprints is compared before the first row is given. The facts of
the source are `space`, `exact` and `model`.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import CheckpointError, CorruptFileError, StorageError
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.formats.arrays import ArrayFile
from ecliptic.index.formats.row_tables import INSTEAD, read_batches
from ecliptic.index.formats.source import BLOCK, VectorSource, check_vectors
from ecliptic.index.schema import RowBlock
from ecliptic.storage import (
    checksum_vectors,
    limit_sidecar,
    open_parquet,
    parse_facts,
    parse_flat_json,
    read_regular,
    read_safetensors,
    sidecar_of,
)

_METADATA = "ecliptic"  # the key of the fingerprints
_FACTS = ("space", "exact", "model")
Pieces = Callable[[], Iterator[NDArray[np.float32]]]  # the vectors, at most BLOCK at a time


def is_saved_parquet(path: Path) -> bool:
    """Whether a Parquet file has fingerprints of `save_vectors`."""
    _, file = open_parquet(path, INSTEAD)
    return _METADATA.encode() in (file.schema_arrow.metadata or {})


def open_saved(path: Path, kind: str) -> VectorSource:
    """The rows of a file of `save_vectors`; without ids, a row has its number.

    Args:
        path: of the file.
        kind: "npy", "safetensors" or "parquet".

    Raises:
        StorageError: the file, its ids or its fingerprints are damaged.
    """
    readers = {"npy": _read_array, "safetensors": _read_tensors, "parquet": _read_table}
    try:
        shape, pieces, ids, about = readers[kind](path)
        _check(pieces, shape, ids, about)
    except (CheckpointError, ValueError, KeyError, RecursionError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise StorageError(
            f"{path} does not hold whole vectors with a fingerprint ({reason}); write it again "
            "with `ecliptic embed` or `save_vectors`."
        ) from None
    names = tuple(map(str, range(shape[0]))) if ids is None else tuple(ids)
    notes = ("there are no ids, so the ids are the numbers of the rows.",) if ids is None else ()
    facts = {name: about[name] for name in _FACTS}
    blocks = partial(_join, pieces, names)
    return VectorSource(f"ecliptic {kind}", *shape, {}, blocks, notes, facts)


def _check(pieces: Pieces, shape: tuple[int, int], ids: object, about: dict[str, Any]) -> None:
    """Raise ValueError unless ids, fingerprints and checksum are those of the rows."""
    texts = isinstance(ids, list) and all(isinstance(one, str) for one in ids)
    if ids is not None and (not texts or len(ids) != shape[0]):  # type: ignore[arg-type]
        raise ValueError(f"its ids are not {shape[0]} texts")
    if not all(isinstance(about[name], str) for name in _FACTS):
        raise ValueError("its fingerprints are not texts")
    if about["sha256"] != checksum_vectors(pieces(), shape, ids, about):  # type: ignore[arg-type]
        raise ValueError("its checksum is that of other rows, ids or fingerprints")


def _join(pieces: Pieces, names: tuple[str, ...]) -> Iterator[RowBlock]:
    start = 0
    for rows in pieces():
        yield RowBlock(names[start : start + len(rows)], {}, rows)
        start += len(rows)


SavedParts = tuple[tuple[int, int], Pieces, Any, dict[str, Any]]  # shape, rows, ids, fingerprints


def _slices(read: Callable[[], NDArray[Any]], where: Path) -> tuple[tuple[int, int], Pieces]:
    """The shape of an array and its rows; it is mapped while they are read."""
    found = read()
    check_vectors(where, found.shape, found.dtype)
    if found.dtype != np.float32:
        raise ValueError(f"its vectors are {found.dtype}, not float32")

    def pieces() -> Iterator[NDArray[np.float32]]:
        rows = read()
        for start in range(0, len(rows), BLOCK):
            yield rows[start : start + BLOCK].copy()

    return (found.shape[0], found.shape[1]), pieces


def _read_array(path: Path) -> SavedParts:
    shape, pieces = _slices(ArrayFile(path).map, path)
    about = parse_facts(read_regular(sidecar_of(path), limit_sidecar(shape[0]), CorruptFileError))
    return shape, pieces, about["ids"], about


def _read_tensors(path: Path) -> SavedParts:
    found = read_safetensors(path)
    about = parse_facts(found.metadata[_METADATA].encode(errors="surrogatepass"))
    ids = found.tensors.get("ids")
    vectors: Any = found.tensors["vectors"]
    if "float" not in f"{vectors.dtype}" or "bfloat" in f"{vectors.dtype}":  # NumPy has none
        raise ValueError(f"its vectors are {vectors.dtype}")
    shape, pieces = _slices(vectors.numpy, path)
    return shape, pieces, None if ids is None else parse_flat_json(ids.numpy().tobytes()), about


def _read_table(path: Path) -> SavedParts:
    pa, file = open_parquet(path, INSTEAD)
    schema = file.schema_arrow
    kind = schema.field(VECTOR).type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
        raise ValueError(f"its column `{VECTOR}` is {kind}")
    about = parse_facts(schema.metadata[_METADATA.encode()])
    shape = (file.metadata.num_rows, kind.list_size)
    check_vectors(path, shape, np.dtype(np.float32))
    ids = None
    if ID in schema.names:
        batches = read_batches(path, [ID])
        ids = [os.fsdecode(one) for batch in batches for one in batch[ID].to_pylist()]

    def pieces() -> Iterator[NDArray[np.float32]]:
        for batch in read_batches(path, [VECTOR]):
            flat = batch[VECTOR].flatten().to_numpy(zero_copy_only=False)
            yield flat.reshape(batch.num_rows, shape[1])

    return shape, pieces, ids, about
