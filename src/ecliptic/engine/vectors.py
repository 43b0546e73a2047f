"""Saves and loads vectors with the fingerprint of their space.

`.npy` with a JSON sidecar (`vectors.npy.json`), `.safetensors` (tensor `vectors`, and `ids` as the
bytes of JSON), or `.parquet` (columns `id` and `vector`; needs pyarrow). The latter two carry the
fingerprint as JSON in their metadata under `ecliptic`. N rows, E vector size.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from ecliptic.checks import rows_not_finite
from ecliptic.engine.card import Card
from ecliptic.engine.sources.tables import import_parquet
from ecliptic.errors import NumericalError, ShapeError, SpaceMismatchError, StorageError
from ecliptic.storage import check_path, replace_file, replace_files

Array = NDArray[np.float32]
_INSTEAD = ".npy"  # of .parquet, without pyarrow
_DAMAGED = (ValueError, KeyError, OSError, EOFError, RecursionError, TypeError, NotImplementedError)


@dataclass(frozen=True)
class Vectors:
    """Stored vectors, their ids and fingerprints."""

    vectors: Array  # (N, E)
    ids: tuple[str, ...] | None  # one per row, if given
    space: str  # fingerprint: only vectors of one space may be compared
    exact: str
    model: str  # its name, for people


def save_vectors(
    path: Path | str, vectors: Tensor | Array, card: Card, ids: Sequence[str] | None = None
) -> None:
    """Write (N, E) vectors with `card`'s fingerprints; the suffix of `path` decides the format.

    Raises:
        StorageError: another suffix than .npy, .safetensors or .parquet, or nothing can be written
            there.
        ShapeError: not (N, E), or a number of ids other than N.
        NumericalError: a row that holds NaN or infinity.
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
    if bad := rows_not_finite(rows):
        name = f" ({names[bad[0]]})" if names else ""
        raise NumericalError(
            f"row {bad[0]}{name} holds NaN or infinity and cannot be compared; encode that item "
            "again, or leave it out."
        )
    writer = _find_format(path)[0]
    about = {"space": card.space, "exact": card.exact, "model": card.name}
    check_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}; check the path and its permissions."
        ) from error
    writer(path, rows, names, about)


def load_vectors(path: Path | str, card: Card | None = None) -> Vectors:
    """Read what `save_vectors` wrote.

    Raises:
        SpaceMismatchError: `card` is given, and the vectors are from another space.
        StorageError: the file or its fingerprint is missing or damaged.
    """
    path = Path(path)
    reader = _find_format(path)[1]
    check_path(path)
    if not path.exists():
        raise StorageError(f"there is no file {path}; check the path.")
    try:
        found = _check(*reader(path))
    except (*_DAMAGED, SafetensorError) as error:
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
    """Check before the work that `save_vectors` can write the format of `path`.

    Raises:
        StorageError: another suffix than .npy, .safetensors or .parquet.
        MissingExtraError: .parquet without pyarrow.
    """
    path = Path(path)
    _find_format(path)
    if path.suffix == ".parquet":
        import_parquet(_INSTEAD)


Save = Callable[[Path, Array, list[str] | None, dict[str, str]], None]
Read = Callable[[Path], tuple[Array, Any, dict[str, Any]]]  # rows, ids, about: unchecked


def _check(rows: Array, ids: Any, about: dict[str, Any]) -> Vectors:
    """Raise ValueError unless these are finite vectors, as many ids or none, and fingerprints."""
    if rows.ndim != 2 or rows.dtype != np.float32:
        raise ValueError(f"{rows.dtype} of shape {rows.shape} where (N, E) float32 is needed")
    if bad := rows_not_finite(rows):
        raise ValueError(f"row {bad[0]} holds NaN or infinity")
    texts = isinstance(ids, list) and all(isinstance(i, str) for i in ids)
    if ids is not None and (not texts or len(ids) != len(rows)):
        raise ValueError(f"its ids are not {len(rows)} texts")
    stated = [about[name] for name in ("space", "exact", "model")]
    if not all(isinstance(value, str) for value in stated):
        raise ValueError("its fingerprints are not texts")
    return Vectors(rows, None if ids is None else tuple(ids), *stated)


def _find_format(path: Path) -> tuple[Save, Read]:
    formats: dict[str, tuple[Save, Read]] = {
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
    text = json.dumps(about | {"sha256": _sha256(rows), "ids": ids})  # ASCII: any name is valid
    sidecar = Path(f"{path}.json")
    replace_files({sidecar: lambda draft: draft.write_text(text), path: partial(_save_npy, rows)})


def _save_npy(rows: Array, draft: Path) -> None:
    with draft.open("wb") as file:  # given a path, NumPy would add its suffix
        np.save(file, rows)


def _read_npy(path: Path) -> tuple[Array, Any, dict[str, Any]]:
    about = _parse_object(Path(f"{path}.json").read_bytes())
    rows = np.load(path, allow_pickle=False)
    if about["sha256"] != _sha256(rows):
        raise ValueError("its sidecar was written for other rows")
    return rows, about["ids"], about


def _sha256(rows: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


def _parse_object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"its JSON is a {type(value).__name__}, not an object")
    return value


def _write_safetensors(
    path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]
) -> None:
    """Write the ids as JSON in a tensor of bytes: readers refuse headers above 100 MB."""
    tensors: dict[str, NDArray[Any]] = {"vectors": rows}
    if ids is not None:
        tensors["ids"] = np.frombuffer(json.dumps(ids).encode(), dtype=np.uint8)
    metadata = {"ecliptic": json.dumps(about)}
    replace_file(path, lambda draft: save_file(tensors, draft, metadata))


def _read_safetensors(path: Path) -> tuple[Array, Any, dict[str, Any]]:
    with safe_open(path, "numpy") as file:
        about = _parse_object((file.metadata() or {})["ecliptic"].encode())
        ids = json.loads(file.get_tensor("ids").tobytes()) if "ids" in file.keys() else None  # noqa: SIM118
        return file.get_tensor("vectors"), ids, about


def _write_parquet(path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]) -> None:
    pa, parquet = import_parquet(_INSTEAD)
    flat = pa.array(rows.reshape(-1))
    columns = {"vector": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])}
    columns = columns if ids is None else {"id": _make_id_column(pa, ids), **columns}
    table = pa.table(columns).replace_schema_metadata({"ecliptic": json.dumps(about)})
    replace_file(path, lambda draft: parquet.write_table(table, draft))


def _read_parquet(path: Path) -> tuple[Array, Any, dict[str, Any]]:
    pa, parquet = import_parquet(_INSTEAD)
    table = parquet.read_table(path)
    about = _parse_object((table.schema.metadata or {})[b"ecliptic"])
    column = table["vector"].combine_chunks()
    if not pa.types.is_fixed_size_list(column.type) or column.null_count:
        raise ValueError(f"its column `vector` is {column.type} with {column.null_count} nulls")
    rows = column.flatten().to_numpy(zero_copy_only=False)
    ids = table["id"].to_pylist() if "id" in table.column_names else None
    ids = ids and [os.fsdecode(i) for i in ids if i is not None]
    return rows.reshape(len(column), column.type.list_size).copy(), ids, about


def _make_id_column(pa: Any, ids: list[str]) -> Any:
    """A column of text, or of bytes if a file name is not UTF-8."""
    try:
        return pa.array(ids, pa.string())
    except UnicodeEncodeError:
        pass
    try:
        return pa.array([os.fsencode(i) for i in ids], pa.binary())
    except UnicodeEncodeError as error:
        raise StorageError(
            f"the id {error.object!r} is not a text that Parquet can hold; write .npy or "
            ".safetensors."
        ) from None
