"""Addresses, users and databases that a store in PostgreSQL refuses; no password is told."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ecliptic.errors import ConfigError, MissingExtraError, StorageError
from tests.index.servers.cases import SCHEMA

psycopg = pytest.importorskip("psycopg", reason="pip install ecliptic[postgres]")
from ecliptic.index.servers.postgres import PostgresStore  # noqa: E402 - a skip comes first

SECRET = "s3cr@t"


@pytest.fixture
def other_database(socket_folder: str) -> Iterator[str]:
    """Without pgvector, and a user `guest` who may do little there."""
    address = f"postgresql://postgres@/postgres?host={socket_folder}"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("CREATE DATABASE other TEMPLATE template0")
        admin.execute("CREATE ROLE guest LOGIN PASSWORD 's3cr@t'")
        yield f"/other?host={socket_folder}"
        admin.execute("DROP DATABASE other WITH (FORCE)")
        admin.execute("DROP ROLE guest")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cr@t@127.0.0.1:1/db?table=photos",  # @ must be written %40
        "postgresql://user:s3cr%40t@127.0.0.1:1/db?table=photos",
        "postgresql://user:s3cr%40t/x@127.0.0.1:1/db?table=photos",
        "postgresql://user:12/s3cr%40t@127.0.0.1:1/db?table=photos",
        "postgresql://user:s3cr%40t#x@127.0.0.1:1/db?table=photos",
        "postgresql://user:s3cr%40t@127.0.0.1:1/db?table=photos&password=s3cr%40t",
        "postgresql://user:s3cr%40t@127.0.0.1:1/db",
        "postgresql://user:s3cr%40t@127.0.0.1:1/db?table=Photos%3B",
        "postgresql://user:s3cr%40t@127.0.0.1:99999/db?table=photos",
        "postgresql://user:s3cr%40t@[::1/db?table=photos",
        "postgresql://user:s3cr%40t@a b/db?table=photos",
        "postgresql://user:s3cr%40t@127.0.0.1:1/db?table=photos&table=more",
        "mysql://user:s3cr%40t@127.0.0.1:1/db?table=photos",
    ],
)
def test_no_message_tells_a_password(url: str) -> None:
    with pytest.raises((ConfigError, StorageError)) as caught:
        PostgresStore.open(url)
    told = "".join(str(error) for error in (caught.value, caught.value.__cause__))
    assert "s3cr" not in told


def test_a_store_does_not_show_its_password(other_database: str) -> None:
    url = f"postgresql://guest:s3cr%40t@{other_database}&table=photos"
    with pytest.raises(StorageError, match="no store postgresql://guest@/other") as caught:
        PostgresStore.open(url)
    assert "s3cr" not in str(caught.value)
    from ecliptic.index.servers.address import read_address

    address = read_address(url, ("postgresql",), "", ("host", "table"))
    assert address.password == SECRET
    assert "s3cr" not in repr(address)


def test_a_user_without_rights_is_told_whom_to_ask(other_database: str) -> None:
    mine = f"postgresql://guest@{other_database}&table=photos"
    with pytest.raises(StorageError, match="run `CREATE EXTENSION vector` in this database"):
        PostgresStore.open(mine, SCHEMA)
    with PostgresStore.open(mine.replace("guest@", "postgres@"), SCHEMA):
        with pytest.raises(StorageError, match=r"refuses this user .*permission denied"):
            PostgresStore.open(mine)
        admin_url = f"postgresql://postgres@{other_database}"
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute("GRANT SELECT ON photos, photos_schema TO guest")
        with PostgresStore.open(mine) as guest:
            assert len(guest) == 0
            with pytest.raises(StorageError, match=r"refuses this user .*nothing of this call"):
                guest.upsert(["a"], [[1.0] * 8])
            with pytest.raises(StorageError, match="ask the owner"):
                guest.compact()


def test_a_database_that_cannot_hold_every_text_is_refused(socket_folder: str) -> None:
    address = f"postgresql://postgres@/postgres?host={socket_folder}"
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute("CREATE DATABASE plain TEMPLATE template0 ENCODING 'SQL_ASCII'")
        try:
            url = f"postgresql://postgres@/plain?host={socket_folder}&table=photos"
            with pytest.raises(StorageError, match="ENCODING 'UTF8'"):
                PostgresStore.open(url, SCHEMA)
        finally:
            admin.execute("DROP DATABASE plain WITH (FORCE)")


def test_without_the_library_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("ecliptic.index.servers.")]:
        monkeypatch.delitem(sys.modules, name)
    missing: Any = None
    monkeypatch.setitem(sys.modules, "psycopg", missing)
    monkeypatch.setitem(sys.modules, "qdrant_client", missing)
    with pytest.raises(MissingExtraError, match=r"pip install ecliptic\[postgres\]"):
        __import__("ecliptic.index.servers.postgres")
    with pytest.raises(MissingExtraError, match=r"pip install ecliptic\[qdrant\]"):
        __import__("ecliptic.index.servers.qdrant")
