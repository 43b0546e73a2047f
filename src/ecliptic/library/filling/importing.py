"""Makes a library of vectors that another tool computed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from ecliptic.engine import Card
from ecliptic.errors import SpaceMismatchError, StorageError
from ecliptic.index import ColumnType, ColumnValue, RefusedRow, RowBlock, Store, VectorSource
from ecliptic.library.filling.places import folder_of, name_file
from ecliptic.library.layout import COLUMNS

_FILLED = ("content", "size", "modified", "mtime_ns", "added")  # what `add` relies on
PATHS = ("path", "image_path")  # columns that may hold the file of a picture


def check_source(source: VectorSource, card: Card, where: object) -> None:
    """Raise unless the vectors can be of the model.

    Raises:
        SpaceMismatchError: the files tell another space, or the vectors have another size.
    """
    space = source.facts.get("space", card.space)
    if space != card.space:
        raise SpaceMismatchError(
            f"{where} holds vectors of {source.facts.get('model', 'another model')} (space "
            f"{space[:12]}), but the model is {card.name} (space {card.space[:12]}); pass the "
            "model that made them."
        )
    if source.width != card.embed:
        raise SpaceMismatchError(
            f"{where} holds vectors of {source.width} values, but {card.name} has {card.embed}; "
            "pass the model that made them."
        )


def fill(store: Store, source: VectorSource) -> list[RefusedRow]:
    """Store all rows of a source; returns those that cannot be stored.

    Raises:
        StorageError: two rows have one id.
    """
    refused: list[RefusedRow] = []
    count = 0
    for block in source.blocks():
        if block.vectors is None:
            raise StorageError("the source gives rows without vectors.")
        columns = _columns(block, source)
        written = store.upsert(_ids(block, columns), block.vectors, columns)
        refused += [RefusedRow(count + one.row, one.id, one.reason) for one in written.refused]
        if written.replaced or written.repeated:
            raise StorageError(
                f"{written.replaced + written.repeated} rows near row {count} have an id that came "
                "before; name another column of ids."
            )
        count += len(block.ids)
    return refused


def _columns(block: RowBlock, source: VectorSource) -> dict[str, Sequence[ColumnValue | None]]:
    """The columns of a block, with those of a library that a path tells.

    Columns of other tools that have the names of what `add` fills and relies on are left out.
    """
    own = "space" in source.facts
    columns: dict[str, Sequence[ColumnValue | None]] = {
        name: values for name, values in block.columns.items() if own or name not in _FILLED
    }
    paths = next((columns[name] for name in PATHS if name in columns), None)
    if paths is None and source.id_column in PATHS:
        paths = block.ids
    if paths is not None:
        given = [path if _is_file_name(path) else None for path in paths]
        files = [name_file(path) if path else None for path in given]
        columns["path"] = files
        columns["name"] = [Path(path).name if path else None for path in files]
        columns["folder"] = [folder_of(path or "") for path in files]
    return columns


def _ids(block: RowBlock, columns: Mapping[str, Sequence[ColumnValue | None]]) -> list[str]:
    """The ids; a path becomes what `add` names its file, so that it is not added twice."""
    if "path" not in columns:
        return list(block.ids)
    named = zip(block.ids, columns["path"], strict=True)
    return [str(path) if path and path == name_file(id_) else id_ for id_, path in named]


def _is_file_name(value: ColumnValue | None) -> TypeGuard[str]:
    """Whether a value can be the path of a file; an address of the web is none."""
    return isinstance(value, str) and bool(value) and "://" not in value


def own_columns(source: VectorSource) -> Iterator[tuple[str, ColumnType]]:
    """Columns of a source that a library does not have by itself."""
    for name, kind in source.columns.items():
        if name not in COLUMNS:
            yield name, kind
        elif COLUMNS[name] != kind and name not in _FILLED:
            raise StorageError(
                f"the column {name!r} of the source holds {kind}, but that of a library "
                f"{COLUMNS[name]}; rename it, or leave it out."
            )
