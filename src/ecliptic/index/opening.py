"""`open_store`: from a path or an address to a store."""

from pathlib import Path

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index.declared import check_same_schema
from ecliptic.index.memory import MemoryStore
from ecliptic.index.schema import StoreSchema
from ecliptic.index.store import Store

MEMORY = "memory:"
POSTGRES = ("postgresql://", "postgres://")
QDRANT = ("qdrant://", "qdrant+https://")


def open_store(place: str | Path, schema: StoreSchema | None = None) -> Store:
    """Open a store, or make one.

    Args:
        place: a folder; `postgresql://user@host/db?table=photos` of a server with pgvector;
            `qdrant://host:6333/photos`; "memory:" for a store that ends with the process.
        schema: what it holds, if it is to be made where there is none; None opens an existing one.

    Raises:
        StorageError: there is none and no `schema` was given, there is one of another schema, or
            it cannot be read.
        ConfigError: a wrong address, or a store in memory without a schema.
        MissingExtraError: its engine is not installed.
    """
    if place == MEMORY:
        if schema is None:
            raise ConfigError("a store in memory begins empty; pass its schema.")
        return MemoryStore(schema)
    text = str(place)
    if text.startswith(POSTGRES):
        from ecliptic.index.servers.postgres import PostgresStore

        return PostgresStore.open(text, schema)
    if text.startswith(QDRANT):
        from ecliptic.index.servers.qdrant import QdrantStore

        return QdrantStore.open(text, schema)
    if isinstance(place, str) and "://" in place:
        raise ConfigError(
            f"{place.partition('://')[0]}:// is no address of a store; use a folder, "
            "postgresql:// or qdrant://."
        )
    return _open_folder(Path(place), schema)


def _open_folder(folder: Path, schema: StoreSchema | None) -> Store:
    from ecliptic.index.lance.store import ABOUT, LanceStore

    if not (folder / ABOUT).exists():
        if schema is None:
            return LanceStore(folder)  # it says what is missing
        _create(folder, schema)
    store = LanceStore(folder)
    if schema is not None:
        check_same_schema(store.schema, schema, str(folder))
    return store


def _create(folder: Path, schema: StoreSchema) -> None:
    from ecliptic.index.lance.store import ABOUT, LanceStore

    try:
        LanceStore.create(folder, schema)
    except StorageError:
        if not (folder / ABOUT).exists():  # another process made it meanwhile
            raise
