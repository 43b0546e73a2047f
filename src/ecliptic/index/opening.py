"""`open_store`: from a path or an address to a store."""

from collections.abc import Callable
from pathlib import Path

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index.memory import MemoryStore
from ecliptic.index.schema import StoreSchema
from ecliptic.index.store import Store

MEMORY = "memory:"


def open_store(place: str | Path, schema: StoreSchema | None = None) -> Store:
    """Open a store, or make one.

    Args:
        place: a folder; "memory:" for one that ends with the process.
        schema: what it holds, if it is to be made where there is none; None opens an existing one.

    Raises:
        StorageError: there is none and no `schema` was given, or it cannot be read.
        ConfigError: there is one of another schema.
        MissingExtraError: its engine is not installed.
    """
    if place == MEMORY:
        if schema is None:
            raise ConfigError("a store in memory begins empty; pass its schema.")
        return MemoryStore(schema)
    return _open_folder(Path(place), schema)


def _open_folder(folder: Path, schema: StoreSchema | None) -> Store:
    from ecliptic.index.lance.store import ABOUT, LanceStore

    if not (folder / ABOUT).exists():
        if schema is None:
            return LanceStore(folder)  # it says what is missing
        _create(folder, schema)
    store = LanceStore(folder)
    if schema is not None and store.schema != schema:
        raise ConfigError(_compare(folder, store.schema, schema))
    return store


def _create(folder: Path, schema: StoreSchema) -> None:
    from ecliptic.index.lance.store import ABOUT, LanceStore

    try:
        LanceStore.create(folder, schema)
    except StorageError:
        if not (folder / ABOUT).exists():  # another process made it meanwhile
            raise


def _compare(folder: Path, found: StoreSchema, wanted: StoreSchema) -> str:
    fields: tuple[tuple[str, Callable[[StoreSchema], object]], ...] = (
        ("width", lambda s: s.width),
        ("columns", lambda s: dict(s.columns)),
        ("facts", lambda s: dict(s.facts)),
    )
    name, get = next((n, g) for n, g in fields if g(found) != g(wanted))
    return (
        f"{folder} holds a store of other {name}: {get(found)} instead of {get(wanted)}; use "
        "another folder, or open it without a schema."
    )
