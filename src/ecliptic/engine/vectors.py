"""Saves and loads vectors with the fingerprint of their space.

`.npy` with a JSON sidecar (`vectors.npy.json`), `.safetensors` (tensor `vectors`, and `ids` as the
bytes of JSON), or `.parquet` (columns `id` and `vector`; needs pyarrow). The latter two carry the
fingerprint as JSON in their metadata under `ecliptic`. In all three it has a checksum of vectors,
ids and fingerprints, and a file without one is refused. N rows, E vector size.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from ecliptic.checks import rows_not_finite
from ecliptic.engine.card import Card
from ecliptic.errors import (
    CorruptFileError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
    StorageError,
)
from ecliptic.scoring import to_tensor
from ecliptic.storage import (
    Drafts,
    Writer,
    check_path,
    checksum_vectors,
    find_changes,
    import_parquet,
    limit_sidecar,
    make_folder,
    open_parquet,
    parse_facts,
    parse_flat_json,
    read_npy,
    read_regular,
    read_safetensors,
    replace_files,
    sidecar_of,
    stream_writer,
    text_writer,
)

Array = NDArray[np.float32]
_INSTEAD = ".npy"  # of .parquet, without pyarrow
_DAMAGED = (CorruptFileError, ValueError, KeyError, OSError, RecursionError)


@dataclass(frozen=True)
class Vectors:
    """Stored vectors, their ids and fingerprints."""

    vectors: Array  # (N, E)
    ids: tuple[str, ...] | None  # one per row, if given
    space: str  # fingerprint: only vectors of one space may be compared
    exact: str
    model: str  # its name, for people

    def __len__(self) -> int:
        """The number of vectors."""
        return len(self.vectors)

    def __repr__(self) -> str:
        ids = "no ids" if self.ids is None else f"ids {', '.join(map(repr, self.ids[:3]))}"
        more = ", ..." * (self.ids is not None and len(self.ids) > 3)
        return f"Vectors({self.model!r}, {len(self)} x {self.vectors.shape[-1]}, {ids}{more})"


Comparable: TypeAlias = Tensor | NDArray[Any] | Vectors  # (N, E) of one model


def given_vectors(given: Any, card: Card) -> Tensor | None:
    """The (N, E) float32 vectors that were given in place of texts or images; None if these were.

    A tensor or array is vectors if it holds floats in two axes, which no image and no tokens do.

    Raises:
        ShapeError: vectors of another size than the model's.
        SpaceMismatchError: stored vectors of another space.
        NumericalError: a vector holds NaN or infinity.
    """
    if isinstance(given, Vectors):
        _check_space(given, card, "these are")
    elif not _is_floats(given) or given.ndim != 2:
        return None
    rows = to_tensor(given).float().cpu()
    if rows.shape[1] != card.embed:
        raise ShapeError(
            f"{card.name} has vectors of {card.embed} values, got {tuple(rows.shape)}; encode with "
            "the same model."
        )
    if bad := rows_not_finite(rows):
        raise NumericalError(
            f"row {bad[0]} of the given vectors holds NaN or infinity and cannot be compared; "
            "leave it out."
        )
    return rows


def _is_floats(given: Any) -> bool:
    if isinstance(given, Tensor):
        return given.is_floating_point()
    return isinstance(given, np.ndarray) and given.dtype.kind == "f"


def _check_space(found: Vectors, card: Card, what: str) -> None:
    if found.space != card.space:
        raise SpaceMismatchError(
            f"{what} vectors of {found.model} (space {found.space[:12]}), but the model is "
            f"{card.name} (space {card.space[:12]}); vectors of two spaces cannot be compared: "
            "load that model, or embed the items again."
        )


def save_vectors(
    path: Path | str,
    vectors: Tensor | Array,
    card: Card,
    ids: Sequence[str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write (N, E) vectors with `card`'s fingerprints; the suffix of `path` decides the format.

    Args:
        path: the file; its folder is made.
        vectors: (N, E), in any floating dtype; float32 is stored.
        card: `clip.card` of the model that made them.
        ids: one name per row.
        overwrite: replace a file of other content.

    Raises:
        StorageError: a file of other content exists and `overwrite` is False; another suffix than
            .npy, .safetensors or .parquet; or nothing can be written there.
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
    make_writers = _find_format(path)[0]
    about = {"space": card.space, "exact": card.exact, "model": card.name}
    about["sha256"] = checksum_vectors([rows], rows.shape, names, about)
    check_path(path)
    make_folder(path.parent)

    def check(drafts: Drafts) -> None:
        if not overwrite and find_changes(drafts):
            raise StorageError(
                f"{path} exists with other content; choose another path, or pass overwrite=True."
            )

    replace_files(make_writers(path, rows, names, about), check)


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
        found = _check("sidecar" if path.suffix == ".npy" else "checksum", *reader(path))
    except _DAMAGED as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise StorageError(
            f"{path} does not hold vectors with a fingerprint ({reason}); write it with "
            "`ecliptic embed` or `save_vectors`, which record the space."
        ) from None
    if card is not None:
        _check_space(found, card, f"{path} holds")
    return found


def check_vectors_path(path: Path | str) -> tuple[Path, ...]:
    """Check before the work that `save_vectors` can write the format of `path`.

    Returns:
        The files that it will write or replace.

    Raises:
        StorageError: another suffix than .npy, .safetensors or .parquet.
        MissingExtraError: .parquet without pyarrow.
    """
    path = Path(path)
    _find_format(path)
    if path.suffix == ".parquet":
        import_parquet(_INSTEAD)
    return (path, sidecar_of(path)) if path.suffix == ".npy" else (path,)


Save = Callable[[Path, Array, list[str] | None, dict[str, str]], dict[Path, Writer]]
Read = Callable[[Path], tuple[Array, Any, dict[str, Any]]]  # rows, ids, about: unchecked


def _check(part: str, rows: Array, ids: Any, about: dict[str, Any]) -> Vectors:
    """Raise ValueError unless these are finite vectors, as many ids or none, and fingerprints.

    They must also match the checksum in the `part` of the file.
    """
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
    if "sha256" not in about:
        raise ValueError("it has no checksum, so nothing tells whether it is damaged")
    if about["sha256"] != checksum_vectors([rows], rows.shape, ids, about):
        raise ValueError(f"its {part} was written for other rows, ids or fingerprints")
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


def _write_npy(
    path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]
) -> dict[Path, Writer]:
    text = json.dumps(about | {"ids": ids})  # ASCII: any name is valid
    if len(text) > (limit := limit_sidecar(len(rows))):
        raise StorageError(
            f"the ids of {path} take {len(text)} bytes, but readers accept {limit} beside .npy; "
            "write .safetensors or .parquet."
        )
    save = stream_writer(lambda file: np.save(file, rows))  # given a path, NumPy adds its suffix
    return {sidecar_of(path): text_writer(text), path: save}


def _read_npy(path: Path) -> tuple[Array, Any, dict[str, Any]]:
    rows = read_npy(path)
    data = read_regular(
        sidecar_of(path), limit_sidecar(len(rows) if rows.ndim else 0), CorruptFileError
    )
    about = parse_facts(data)
    return rows, about["ids"], about


def _write_safetensors(
    path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]
) -> dict[Path, Writer]:
    """Write the ids as JSON in a tensor of bytes: readers refuse headers above 100 MB."""
    tensors: dict[str, NDArray[Any]] = {"vectors": rows}
    if ids is not None:
        tensors["ids"] = np.frombuffer(json.dumps(ids).encode(), dtype=np.uint8)
    metadata = {"ecliptic": json.dumps(about)}
    return {path: lambda draft: save_file(tensors, draft, metadata)}


def _read_safetensors(path: Path) -> tuple[Array, Any, dict[str, Any]]:
    tensors, metadata = read_safetensors(path)
    about = parse_facts(metadata["ecliptic"].encode(errors="surrogatepass"))
    ids = parse_flat_json(tensors["ids"].numpy().tobytes()) if "ids" in tensors else None
    if tensors["vectors"].dtype == torch.bfloat16:  # NumPy has none
        raise ValueError("its vectors are bfloat16")
    return tensors["vectors"].numpy().copy(), ids, about


def _write_parquet(
    path: Path, rows: Array, ids: list[str] | None, about: dict[str, str]
) -> dict[Path, Writer]:
    """Write without compression: vectors gain nothing, and a reader can bound what they take."""
    pa, parquet = import_parquet(_INSTEAD)
    flat = pa.array(rows.reshape(-1))
    columns = {"vector": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])}
    columns = columns if ids is None else {"id": _make_id_column(pa, ids), **columns}
    table = pa.table(columns).replace_schema_metadata({"ecliptic": json.dumps(about)})
    plain = {"compression": "none", "use_dictionary": False}
    return {path: lambda draft: parquet.write_table(table, draft, **plain)}


def _read_parquet(path: Path) -> tuple[Array, Any, dict[str, Any]]:
    pa, found = open_parquet(path, _INSTEAD, CorruptFileError)
    try:
        table = _read_plain_table(pa, found, path.stat().st_size)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(str(error)[:500]) from None
    about = parse_facts((table.schema.metadata or {})[b"ecliptic"])
    column = table["vector"].combine_chunks()
    if column.null_count:
        raise ValueError(f"its column `vector` has {column.null_count} nulls")
    rows = column.flatten().to_numpy(zero_copy_only=False)
    ids = table["id"].to_pylist() if "id" in table.column_names else None
    ids = ids and [os.fsdecode(i) for i in ids if isinstance(i, str | bytes)]
    return rows.reshape(len(column), column.type.list_size).copy(), ids, about


def _read_plain_table(pa: Any, file: Any, size: int) -> Any:
    """Read ids and vectors, if the vectors fit into the `size` of the file.

    The facts of single columns are not asked for: of a damaged file they end the process
    (pyarrow 26, `RowGroupMetaData.column`).
    """
    kind = file.schema_arrow.field("vector").type
    if not pa.types.is_fixed_size_list(kind) or kind.list_size < 1:
        raise ValueError(f"its column `vector` is {kind}")
    if file.metadata.num_rows * kind.list_size * 4 > size:
        raise ValueError("it declares more rows than it can hold")
    return file.read(columns=[name for name in ("id", "vector") if name in file.schema_arrow.names])


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
