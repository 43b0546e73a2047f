"""Vectors in files, with the fingerprint of the space they live in.

`.npy` with a JSON sidecar (`vectors.npy.json`), `.safetensors` with the same JSON in its metadata,
or `.parquet` (columns `id` and `vector`; needs pyarrow). N rows, E vector size.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from ecliptic.engine.card import Card
from ecliptic.errors import MissingExtraError, ShapeError, SpaceMismatchError, StorageError

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Vectors:
    """Stored vectors and where they come from."""

    vectors: Array  # (N, E)
    ids: tuple[str, ...] | None  # what each row is, if it was given
    space: str  # fingerprint: only vectors of one space may be compared
    exact: str
    model: str  # its name, for people


def save_vectors(
    path: Path | str, vectors: Tensor | Array, card: Card, ids: Sequence[str] | None = None
) -> None:
    """Write (N, E) vectors with `card`'s fingerprints; the suffix of `path` decides the format.

    Raises:
        StorageError: another suffix than .npy, .safetensors or .parquet.
        ShapeError: not (N, E), or a number of ids other than N.
    """
    path = Path(path)
    rows = np.ascontiguousarray(
        vectors.detach().cpu().float().numpy() if isinstance(vectors, Tensor) else vectors,
        dtype=np.float32,
    )
    if rows.ndim != 2 or rows.shape[1] != card.embed:
        raise ShapeError(f"{card.name} gives (N, {card.embed}) vectors, got {rows.shape}.")
    if ids is not None and len(ids) != len(rows):
        raise ShapeError(f"{len(rows)} vectors need {len(rows)} ids, got {len(ids)}.")
    names = None if ids is None else [str(i) for i in ids]
    about = {"space": card.space, "exact": card.exact, "model": card.name}
    writer = _format(path)[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer(path, rows, names, about)


def load_vectors(path: Path | str, card: Card | None = None) -> Vectors:
    """Read what `save_vectors` wrote.

    Raises:
        SpaceMismatchError: `card` is given and the vectors live in another space than its.
        StorageError: the file or its fingerprint is missing or damaged.
    """
    path = Path(path)
    reader = _format(path)[1]
    if not path.exists():
        raise StorageError(f"there is no file {path}; check the path.")
    try:
        rows, ids, about = reader(path)
        found = Vectors(rows, ids, about["space"], about["exact"], about["model"])
    except (ValueError, KeyError, OSError, EOFError, SafetensorError) as error:
        raise StorageError(
            f"{path} does not hold vectors with a fingerprint ({error}); write it with "
            "`ecliptic embed` or `save_vectors`, which record the space."
        ) from None
    if card is not None and found.space != card.space:
        raise SpaceMismatchError(
            f"{path} holds vectors of {found.model} (space {found.space[:12]}), but the model is "
            f"{card.name} (space {card.space[:12]}); vectors of two spaces cannot be compared: "
            "load that model, or embed the items again."
        )
    return found


def check_vectors_path(path: Path | str) -> None:
    """Raise now what `save_vectors` would raise for `path` after the work is done.

    Raises:
        StorageError: another suffix than .npy, .safetensors or .parquet.
        MissingExtraError: .parquet without pyarrow.
    """
    path = Path(path)
    _format(path)
    if path.suffix == ".parquet":
        _pyarrow()


Writer = Callable[[Path, Array, list[str] | None, dict[str, str]], None]
Reader = Callable[[Path], tuple[Array, tuple[str, ...] | None, dict[str, Any]]]


def _format(path: Path) -> tuple[Writer, Reader]:
    formats: dict[str, tuple[Writer, Reader]] = {
        ".npy": (_write_npy, _read_npy),
        ".safetensors": (_write_safetensors, _read_safetensors),
        ".parquet": (_write_parquet, _read_parquet),
    }
    if path.suffix not in formats:
        raise StorageError(
            f"{path.name} has no known suffix for vectors; use {', '.join(formats)}."
        )
    return formats[path.suffix]


def _write_npy(path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]) -> None:
    sidecar = Path(f"{path}.json")
    text = json.dumps(about | {"sha256": _sha256(rows), "ids": ids}, ensure_ascii=False)
    _replace(sidecar, lambda p: p.write_text(text, "utf-8", errors="surrogateescape"))
    _replace(path, lambda p: np.save(p, rows))


def _read_npy(path: Path) -> tuple[Array, tuple[str, ...] | None, dict[str, Any]]:
    text = Path(f"{path}.json").read_text("utf-8", errors="surrogateescape")
    about = json.loads(text)
    rows = np.load(path, allow_pickle=False)
    if about["sha256"] != _sha256(rows):
        raise ValueError("its sidecar was written for other rows")
    return rows, _names(about["ids"]), about


def _sha256(rows: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


def _write_safetensors(
    path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]
) -> None:
    metadata = {"ecliptic": json.dumps(about | {"ids": ids})}

    def write(draft: Path) -> None:
        draft.touch()
        mode = draft.stat().st_mode  # safetensors makes files that only their owner can read
        save_file({"vectors": rows}, draft, metadata)
        draft.chmod(mode)

    _replace(path, write)


def _read_safetensors(path: Path) -> tuple[Array, tuple[str, ...] | None, dict[str, Any]]:
    with safe_open(path, "numpy") as file:
        about = json.loads((file.metadata() or {})["ecliptic"])
        return file.get_tensor("vectors"), _names(about["ids"]), about


def _write_parquet(path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]) -> None:
    pa, parquet = _pyarrow()
    flat = pa.array(rows.reshape(-1))
    columns = {"vector": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])}
    columns = columns if ids is None else {"id": _id_column(pa, ids), **columns}
    table = pa.table(columns).replace_schema_metadata({"ecliptic": json.dumps(about)})
    _replace(path, lambda p: parquet.write_table(table, p))


def _read_parquet(path: Path) -> tuple[Array, tuple[str, ...] | None, dict[str, Any]]:
    _, parquet = _pyarrow()
    table = parquet.read_table(path)
    about = json.loads((table.schema.metadata or {})[b"ecliptic"])
    column = table["vector"].combine_chunks()
    rows = (
        column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    )
    ids = table["id"].to_pylist() if "id" in table.column_names else None
    ids = ids and [os.fsdecode(i) for i in ids]
    return np.array(rows, dtype=np.float32), _names(ids), about


def _id_column(pa: Any, ids: list[str]) -> Any:
    """Text, or bytes when a file name is not UTF-8, which text columns cannot hold."""
    try:
        return pa.array(ids, pa.string())
    except UnicodeEncodeError:
        return pa.array([os.fsencode(i) for i in ids], pa.binary())


def _names(ids: list[str] | None) -> tuple[str, ...] | None:
    return None if ids is None else tuple(ids)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside `path`, then rename, so that a reader never sees half a file."""
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "parquet files need pyarrow; `pip install 'ecliptic[parquet]'`, or write .npy."
        ) from None
    return pyarrow, pyarrow.parquet
