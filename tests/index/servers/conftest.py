"""Servers and stores for the tests of this folder."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ecliptic.index import Store, StoreSchema
from tests.index.servers.cases import SCHEMA
from tests.index.servers.postgres_server import run_postgres

_NUMBERS = count()


@pytest.fixture(scope="session")
def socket_folder() -> Iterator[str]:
    """Of a PostgreSQL server that runs until the tests end."""
    with run_postgres() as folder:
        yield folder


@pytest.fixture
def postgres_url(socket_folder: str) -> str:
    """A store that is not there yet."""
    return f"postgresql://postgres@/postgres?host={socket_folder}&table=photos{next(_NUMBERS)}"


def open_qdrant(client: Any, schema: StoreSchema | None = SCHEMA) -> Any:
    """A store on a client that is no HTTP client."""
    from ecliptic.index.servers.qdrant import QdrantStore
    from ecliptic.index.servers.qdrant_collection import open_collection
    from ecliptic.index.servers.qdrant_link import QdrantLink

    link = QdrantLink(client, "photos", "qdrant://here/photos")
    return QdrantStore(link, open_collection(link, schema))


@pytest.fixture(params=["postgres", "qdrant-edge", "qdrant-local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store with the columns of the cases, in each engine."""
    if request.param == "postgres":
        pytest.importorskip("psycopg", reason="pip install ecliptic[postgres]")
        from ecliptic.index.servers.postgres import PostgresStore

        with PostgresStore.open(request.getfixturevalue("postgres_url"), SCHEMA) as made:
            yield made
        return
    pytest.importorskip("qdrant_client", reason="pip install ecliptic[qdrant]")
    if request.param == "qdrant-edge":
        pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")
        from tests.index.servers.edge import EdgeClient

        client: Any = EdgeClient(tmp_path / "edge")
    else:
        from qdrant_client import QdrantClient

        client = QdrantClient(":memory:")
    with open_qdrant(client) as made:
        yield made
