"""`write_vectors`: writes rows as files of other tools, whole or not at all.

The suffix decides the format. Only Parquet holds ids and columns; beside the others stands a
Parquet file with them, `PATH.parquet`, whose rows have the order of the vectors, as the `metadata`
of clip-retrieval has.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecliptic.checks import rows_not_finite
from ecliptic.errors import NumericalError, ShapeError, StorageError
from ecliptic.index.formats.faiss_indexes import import_faiss
from ecliptic.index.formats.indexes import FaissOutput, UsearchOutput, import_usearch
from ecliptic.index.formats.outputs import ArrayOutput, TableOutput, VectorOutput
from ecliptic.index.formats.row_names import table_beside
from ecliptic.index.formats.row_tables import INSTEAD
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.storage import (
    Drafts,
    check_path,
    import_parquet,
    make_folder,
    replace_set,
    sidecar_of,
)

Opener = Callable[[Path, StoreSchema], VectorOutput]
_FORMATS: dict[str, tuple[Opener, Callable[[], object]]] = {  # and the import of what it needs
    ".parquet": (partial(TableOutput, vectors=True), lambda: None),
    ".npy": (ArrayOutput, lambda: None),
    ".index": (FaissOutput, import_faiss),
    ".faiss": (FaissOutput, import_faiss),
    ".usearch": (UsearchOutput, import_usearch),
}


@dataclass(frozen=True)
class WrittenVectors:
    """What `write_vectors` wrote."""

    files: tuple[Path, ...]  # the one that was asked for is the last
    rows: int
    layout: str  # "Parquet", "NumPy float32", "FAISS IVF4096,Flat", "usearch float16"


def vector_outputs(path: Path | str) -> tuple[Path, ...]:
    """The files that `write_vectors` writes for `path`; call it before the work.

    Raises:
        StorageError: another suffix than those of its formats.
        MissingExtraError: pyarrow, faiss or usearch is needed and not installed.
    """
    path = Path(path)
    if path.suffix not in _FORMATS:
        raise StorageError(
            f"{path.name} has no known suffix for vectors; use {', '.join(_FORMATS)}."
        )
    import_parquet(INSTEAD)
    _FORMATS[path.suffix][1]()
    return (path,) if path.suffix == ".parquet" else (table_beside(path), path)


def write_vectors(
    path: Path | str, blocks: Iterable[RowBlock], schema: StoreSchema, *, overwrite: bool = False
) -> WrittenVectors:
    """Write rows as a file of another tool.

    - `.parquet`: `id`, `vector` (a list of E float32) and the columns.
    - `.npy`: (N, E) float32.
    - `.index` or `.faiss`: FAISS for inner products, `IVFn,Flat`, of about 4 * sqrt(N) lists; below
      20,000 rows `Flat`. Made in memory.
    - `.usearch`: a graph for cosines in float16. Made in memory.

    All but the first number their rows from 0, and `PATH.parquet` has the ids and the columns. The
    facts of the schema are in the metadata of the Parquet file, as JSON under `ecliptic.store`;
    `open_vectors` reads them.

    Args:
        path: the file; its folder is made.
        blocks: rows with vectors, such as of `Store.read`. Vectors are written as they are.
        schema: of the rows.
        overwrite: replace existing files.

    Raises:
        StorageError: a file exists, another suffix, or nothing can be written there.
        ShapeError: a block without vectors, or with others than the schema's.
        NumericalError: a vector with NaN or infinity.
        MissingExtraError: as for `vector_outputs`.
    """
    path = Path(path)
    outputs = vector_outputs(path)
    check_path(path)
    _refuse_existing(path, outputs, overwrite=overwrite)
    make_folder(path.parent)
    done: list[WrittenVectors] = []

    def write(drafts: Drafts) -> None:
        rows, layout = _write(path, drafts, blocks, schema)
        done.append(WrittenVectors(outputs, rows, layout))

    replace_set(outputs, write)
    return done[0]


def _refuse_existing(path: Path, outputs: tuple[Path, ...], *, overwrite: bool) -> None:
    for output in outputs:
        if not overwrite and os.path.lexists(output):
            raise StorageError(
                f"{output} exists; choose another path, or pass overwrite=True to replace it."
            )
    if path.suffix == ".npy" and os.path.lexists(sidecar_of(path)):
        raise StorageError(
            f"{sidecar_of(path)} exists, which would be taken for the ids of these vectors; choose "
            "another path, or remove it."
        )


def _write(
    path: Path, drafts: Drafts, blocks: Iterable[RowBlock], schema: StoreSchema
) -> tuple[int, str]:
    """Write all drafts in one pass; returns the number of rows and the layout."""
    rows = 0
    with ExitStack() as closing:
        main = _FORMATS[path.suffix][0](drafts[path], schema)
        closing.callback(main.close)
        outputs = [main]
        if table_beside(path) in drafts:
            outputs.append(TableOutput(drafts[table_beside(path)], schema, vectors=False))
            closing.callback(outputs[-1].close)
        for block in blocks:
            vectors = _check(block, schema, rows)
            for output in outputs:
                output.add(block, vectors)
            rows += len(block.ids)
        for output in outputs:
            output.finish()
        return rows, main.layout


def _check(block: RowBlock, schema: StoreSchema, start: int) -> NDArray[np.float32]:
    """The vectors of a block; `start` is the number of its first row."""
    wanted = (len(block.ids), schema.width)
    if block.vectors is None or block.vectors.shape != wanted:
        got = "none" if block.vectors is None else f"{block.vectors.shape}"
        raise ShapeError(
            f"rows {start} and on need vectors of shape {wanted}, got {got}; read them with "
            "vectors=True, from a store of this width."
        )
    if block.columns.keys() != schema.columns.keys():
        raise ShapeError(
            f"rows {start} and on have the columns {', '.join(block.columns) or 'none'}, but the "
            f"schema {', '.join(schema.columns) or 'none'}; read all columns of the schema."
        )
    if bad := rows_not_finite(block.vectors):
        raise NumericalError(
            f"the vector of {block.ids[bad[0]]!r} has NaN or infinity, which no tool can search; "
            "leave out this row."
        )
    return block.vectors
