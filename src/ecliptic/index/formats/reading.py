"""`open_vectors`: opens files of vectors, whichever tool wrote them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ecliptic.checks import check_choice
from ecliptic.errors import StorageError
from ecliptic.index.formats.arrays import ArrayFile
from ecliptic.index.formats.faiss_headers import has_faiss_header
from ecliptic.index.formats.faiss_indexes import FaissFile
from ecliptic.index.formats.parquet_vectors import open_parquet_vectors
from ecliptic.index.formats.row_names import find_names, table_beside
from ecliptic.index.formats.saved_vectors import is_saved_parquet, open_saved
from ecliptic.index.formats.shards import PARTS, open_shards
from ecliptic.index.formats.source import VectorSource, join_vectors, tell_lengths
from ecliptic.storage import check_path, open_regular, sidecar_of, sniff

_NPY, _PARQUET = b"\x93NUMPY", b"PAR1"
_FAISS_SUFFIXES = (".index", ".faiss")


def open_vectors(
    path: Path | str,
    *,
    part: str = "image",
    names: Path | str | None = None,
    ids: str | None = None,
    columns: Sequence[str] | None = None,
) -> VectorSource:
    """Open the vectors of another tool; the content of the files decides how.

    - The output folder of clip-retrieval, with `img_emb` or `text_emb`, and `metadata`.
    - `.npy`, in float16, float32 or float64.
    - Parquet, with vectors as lists of floats in `vector`, or in the only such column.
    - FAISS indexes: Flat, IVF-Flat, HNSW-Flat, or scalar quantisation of 8 or 16 bits.
    - What `save_vectors` and `ecliptic embed` write; the checksum is compared.

    Only the last, and what `write_vectors` wrote from a store, tell the model that made them, in
    `facts`. For the others the caller must know it.

    Args:
        path: a file, or the folder.
        part: "image" or "text", of a folder.
        names: for `.npy` and FAISS, a Parquet file with ids and columns, or a JSON list of ids,
            in the order of the vectors; by default `PATH.parquet`, if it exists.
        ids: the column of ids; by default `id` or `image_path`, else the number of the row.
        columns: the columns to read; by default all that a store has types for.

    Raises:
        StorageError: the files are damaged, do not fit together, or hold no vectors.
        ConfigError: another `part`.
        MissingExtraError: pyarrow or faiss is needed and not installed.
    """
    path = Path(path)
    check_path(path)
    check_choice("part", part, PARTS)
    if not path.exists():
        raise StorageError(f"there is no file or folder {path}; check the path.")
    given = None if names is None else Path(names)
    if path.is_dir():
        _refuse(path, names=given)
        return tell_lengths(open_shards(path, part, ids, columns))
    if part != "image":
        raise StorageError(f"{path} is a file, and only a folder has part={part!r}; leave it out.")
    return tell_lengths(_open_file(path, _find_kind(path), given, ids, columns))


def _open_file(
    path: Path, kind: str, names: Path | None, ids: str | None, columns: Sequence[str] | None
) -> VectorSource:
    saved = kind == "safetensors" or (kind == "parquet" and is_saved_parquet(path))
    if saved or (kind == "npy" and sidecar_of(path).exists()):
        _refuse(path, names=names, ids=ids, columns=columns)
        if kind == "npy" and table_beside(path).exists():
            raise StorageError(
                f"both {sidecar_of(path).name} and {table_beside(path).name} stand beside {path}; "
                "move the one away that is not of these vectors."
            )
        return open_saved(path, kind)
    if kind == "parquet":
        _refuse(path, names=names)
        return open_parquet_vectors(path, ids, columns)
    return (_open_array if kind == "npy" else _open_faiss)(path, names, ids, columns)


def _refuse(path: Path, **given: object) -> None:
    """Raise StorageError if an option is given that has no effect."""
    for name, value in given.items():
        if value is not None:
            raise StorageError(
                f"{path} has ids and columns of its own that {name}= cannot change; leave it out."
            )


def _find_kind(path: Path) -> str:
    try:
        with open_regular(path) as file:
            start = file.read(8)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
    suffix = path.suffix.lower()
    if start.startswith(_NPY) or suffix == ".npy":
        return "npy"
    if start.startswith(_PARQUET) or suffix == ".parquet":
        return "parquet"
    if has_faiss_header(start) or suffix in _FAISS_SUFFIXES:
        return "faiss"
    if sniff(path) == "safetensors":
        return "safetensors"
    raise StorageError(
        f"{path} is no file of vectors that is read: it begins with {start!r}. Pass a folder of "
        "clip-retrieval, or a .npy, Parquet or FAISS file. (Graphs of usearch and hnswlib are not "
        "read.)"
    )


def _open_array(
    path: Path, names: Path | None, ids: str | None, columns: Sequence[str] | None
) -> VectorSource:
    file = ArrayFile(path)
    rows, width = file.shape
    found = find_names(path, rows, names, ids, columns)
    notes = () if found.given else ("there are no names, so the ids are the numbers of the rows.",)
    return VectorSource(
        "npy",
        rows,
        width,
        found.columns,
        lambda: join_vectors(path, rows, found.read(), file.read),
        (*found.notes, *notes),
        found.facts,
    )


def _open_faiss(
    path: Path, names: Path | None, ids: str | None, columns: Sequence[str] | None
) -> VectorSource:
    file = FaissFile(path)
    found = find_names(path, file.rows, names, ids, columns)
    labels = file.order[0]
    notes = [*found.notes, *file.notes]
    if found.given and not np.array_equal(labels, np.arange(file.rows)):
        raise StorageError(
            f"{path} has ids of its own, from {labels[0]} to {labels[-1]}, so the rows of a list "
            "of names cannot be told apart by their numbers; leave out the names."
        )
    if repeated := int((np.diff(labels) == 0).sum()):
        notes.append(f"{repeated} ids were there before; a store keeps the last row of an id.")
    if not found.given:
        notes.append("there are no names, so the ids are those of the index.")
    read = partial(
        join_vectors, path, file.rows, vectors=file.read, number=lambda row: f"{labels[row]}"
    )
    source = VectorSource("faiss", file.rows, file.width, found.columns, lambda: read(found.read()))
    return replace(source, notes=tuple(notes), facts=found.facts)
