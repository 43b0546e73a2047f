"""Reads the folder that clip-retrieval writes.

`img_emb/img_emb_*.npy` and `text_emb/text_emb_*.npy` hold the vectors of images and of their
captions, `metadata/metadata_*.parquet` the paths and captions, one row for each vector, in parts of
equal numbers.

Source: rom1504/clip-retrieval, clip_retrieval/clip_inference/writer.py.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from ecliptic.errors import StorageError
from ecliptic.index.formats.arrays import ArrayFile
from ecliptic.index.formats.row_tables import RowTable, open_table
from ecliptic.index.formats.source import VectorSource, join_vectors, without_names
from ecliptic.index.schema import RowBlock

PARTS = {"image": "img_emb", "text": "text_emb"}  # what is embedded -> the folder
_METADATA = "metadata"


def open_shards(
    folder: Path, part: str, id_column: str | None, wanted: Sequence[str] | None
) -> VectorSource:
    """The rows of a folder of clip-retrieval.

    Without a column of ids, a row has the number of its part and its own: "003/17".

    Raises:
        StorageError: the parts do not fit together, or cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    kind = PARTS[part]
    arrays = _find(folder / kind, kind, ".npy")
    if not arrays:
        raise StorageError(_explain_missing(folder, kind))
    tables = _find(folder / _METADATA, _METADATA, ".parquet")
    if tables:
        _check_pairs(arrays, tables)
    elif id_column or wanted is not None:
        raise StorageError(
            f"{folder} has no {_METADATA}/{_METADATA}_*.parquet, so it has no columns to name; "
            "leave out the ids and the columns, or add these files."
        )
    files = {number: ArrayFile(path) for number, path in arrays.items()}
    table = open_table(list(tables.values()), id_column, wanted) if tables else None
    if table:
        _check_counts(files, tables, table)
    width = _check_widths(list(files.values()))
    return VectorSource(
        kind="clip-retrieval",
        rows=sum(file.shape[0] for file in files.values()),
        width=width,
        columns=table.columns.types if table else {},
        blocks=partial(_read, files, tables, table),
        notes=_notes(folder, sorted(arrays), table),
        id_column=(table.id or "") if table else "",
    )


def _find(folder: Path, name: str, suffix: str) -> dict[int, Path]:
    """Number -> file of the parts in a folder, in the order of their numbers."""
    pattern = re.compile(rf"{name}_(\d{{1,18}}){re.escape(suffix)}", re.ASCII)
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (match := pattern.fullmatch(path.name)):
            continue
        number = int(match[1])
        if number in found:
            raise StorageError(
                f"{found[number]} and {path.name} have the same number; move one of them away."
            )
        found[number] = path
    return dict(sorted(found.items()))


def _explain_missing(folder: Path, kind: str) -> str:
    others = [name for name, other in PARTS.items() if other != kind and (folder / other).is_dir()]
    if others:
        what = f"it has those of part={others[0]!r} only"
    elif folder.name in PARTS.values():
        what = f"pass the folder above, {folder.parent}"
    else:
        what = "pass the output folder of clip-retrieval, or one file of vectors"
    return f"{folder} has no {kind}/{kind}_*.npy; {what}."


def _check_pairs(arrays: dict[int, Path], tables: dict[int, Path]) -> None:
    for number in sorted(arrays.keys() ^ tables.keys()):
        found = arrays.get(number) or tables[number]
        missing = "metadata" if number in arrays else "vectors"
        raise StorageError(
            f"{found} has no {missing} of the same number beside it; the two are written together, "
            "so one was lost. Add it, or move the other away."
        )


def _check_counts(files: dict[int, ArrayFile], tables: dict[int, Path], table: RowTable) -> None:
    for number, file in files.items():
        names, vectors = table.rows[tables[number]], file.shape[0]
        if names != vectors:
            raise StorageError(
                f"{file.path} has {vectors} vectors, but {tables[number]} has {names} rows, so "
                "nothing tells which vector belongs to which row; write both again, or move the "
                "pair away."
            )


def _check_widths(files: list[ArrayFile]) -> int:
    for file in files:
        if file.shape[1] != files[0].shape[1]:
            raise StorageError(
                f"{files[0].path} has vectors of {files[0].shape[1]} values, but {file.path} of "
                f"{file.shape[1]}; they are from different models. Move one kind away."
            )
    return int(files[0].shape[1])


def _notes(folder: Path, numbers: list[int], table: RowTable | None) -> tuple[str, ...]:
    gaps = sorted({*range(numbers[-1] + 1)} - {*numbers}) if numbers[-1] < 1 << 20 else []
    notes = list(table.columns.notes) if table else []
    if gaps:
        shown = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        notes.append(
            f"no files have the number {shown}; clip-retrieval writes none for parts without "
            "images, so this may be right."
        )
    if table is None:
        notes.append(f"{folder} has no {_METADATA}, so the ids are the numbers of part and row.")
    elif table.id is None:
        notes.append("there is no column of ids, so the ids are the numbers of part and row.")
    return tuple(notes)


def _read(
    files: dict[int, ArrayFile], tables: dict[int, Path], table: RowTable | None
) -> Iterator[RowBlock]:
    for number, file in files.items():
        rows = file.map()
        named = table.read(tables[number]) if table else without_names(len(rows))
        number_row = partial(_number, file.path.stem.rpartition("_")[2])
        yield from join_vectors(file.path, len(rows), named, file.read, number_row)


def _number(part: str, row: int) -> str:
    return f"{part}/{row}"
