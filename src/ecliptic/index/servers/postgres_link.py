"""`PostgresLink`: a connection that begins and ends transactions and tells what went wrong.

Vectors travel in pgvector's binary form, so every bit of them arrives. E vector size.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo

from ecliptic.errors import StorageError
from ecliptic.index.servers.postgres_driver import psycopg, sql

_HEADER = struct.Struct(">HH")  # E, and two unused bytes
_PATIENCE = 30  # seconds for a connection, unless the address says `connect_timeout`
_NOTHING_STORED = "nothing of this call was stored"
_MAYBE_STORED = (
    "it broke while the rows were made final, so the server has all rows of this call or none; "
    "write them again, which does no harm"
)
PostgresCursor = psycopg.Cursor[tuple[Any, ...]]


class _VectorDumper(Dumper):
    """An (E,) array as a `vector`."""

    format = Format.BINARY

    def dump(self, obj: NDArray[np.float32]) -> Buffer:
        return _HEADER.pack(len(obj), 0) + obj.astype(">f4").tobytes()


class _VectorLoader(Loader):
    """The numbers of a `vector` as bytes, for `join_vectors`."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)[_HEADER.size :]


def join_vectors(rows: list[bytes], width: int) -> NDArray[np.float32]:
    """Vectors as they were read, as (N, E)."""
    return np.frombuffer(b"".join(rows), dtype=">f4").reshape(-1, width).astype(np.float32)


class PostgresLink:
    """Connects when it is first used, and again after a connection was lost."""

    def __init__(self, parameters: dict[str, Any], where: str) -> None:
        self._parameters, self.where = {"connect_timeout": _PATIENCE} | parameters, where
        self._lock = Lock()  # so that threads do not end each other's transactions
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self.vector_oid: int | None = None  # of the type `vector`; None without pgvector
        self._warnings: list[str] = []

    def __repr__(self) -> str:
        return f"PostgresLink({self.where!r})"

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @contextmanager
    def reading(self) -> Iterator[PostgresCursor]:
        """One state of the database for all statements inside."""
        with self._transaction("REPEATABLE READ READ ONLY", "the answer is not complete") as cursor:
            yield cursor

    @contextmanager
    def writing(self) -> Iterator[PostgresCursor]:
        """All that is written inside is stored, on the disk, or nothing is."""
        with self._transaction("READ COMMITTED READ WRITE", _NOTHING_STORED) as cursor:
            yield cursor

    @contextmanager
    def streaming(self, name: str) -> Iterator[PostgresCursor]:
        """As `reading` on a connection of its own, so that the caller may write meanwhile.

        Args:
            name: of the cursor in the server, which keeps the rows until they are asked for.
        """
        with self._told("the answer is not complete"):
            connection = self._connect()
            try:
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                with connection.cursor(name=name, binary=True) as cursor:
                    yield cursor
            finally:
                connection.close()

    def maintain(self, statement: sql.Composed) -> None:
        """Run a statement that may not be in a transaction, such as VACUUM.

        Raises:
            StorageError: it failed, or the server warns that it did nothing.
        """
        with self._lock, self._told("it was not done"):
            self._ready().execute(statement)
            warnings = list(self._warnings)
        if warnings:
            raise StorageError(f"{self.where}: {warnings[0]}; ask the owner of the table.")

    def read_vector_type(self) -> None:
        """Look again for pgvector, after it was installed into the database."""
        if self._connection is not None:
            self._adapt(self._connection)

    @contextmanager
    def _transaction(self, kind: str, stage: str) -> Iterator[PostgresCursor]:
        with self._lock, self._told(stage) as told:
            connection = self._ready()
            try:
                with connection.cursor(binary=True) as cursor:
                    cursor.execute(f"BEGIN ISOLATION LEVEL {kind}".encode())
                    yield cursor
                    told[:] = [_MAYBE_STORED if stage == _NOTHING_STORED else stage]
                    cursor.execute("COMMIT")
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise

    def _ready(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        self._warnings.clear()
        return self._connection

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(
            **self._parameters, client_encoding="utf8", autocommit=True, prepare_threshold=None
        )
        try:
            connection.add_notice_handler(self._note)
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            )
            self._adapt(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _adapt(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        info = TypeInfo.fetch(connection, "vector")
        self.vector_oid = None if info is None else info.oid
        if info is not None:
            dumper = type("_KnownVectorDumper", (_VectorDumper,), {"oid": info.oid})
            connection.adapters.register_dumper(np.ndarray, dumper)
            connection.adapters.register_loader(info.oid, _VectorLoader)

    def _note(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary or "the server warns")

    @contextmanager
    def _told(self, stage: str) -> Iterator[list[str]]:
        """Errors of psycopg become a StorageError with what became of the call."""
        told = [stage]
        try:
            yield told
        except psycopg.Error as error:
            raise StorageError(_explain(error, self.where, told[0])) from error


def _explain(error: psycopg.Error, where: str, stage: str) -> str:
    reason = error.diag.message_primary or str(error).strip().split("\n")[0] or "no reason given"
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return f"{where} is not as it was made ({reason}); {stage}. `check` tells what is wrong."
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"{where} refuses this user ({reason}); {stage}. Ask its owner for the right."
    if error.sqlstate is None or isinstance(error, psycopg.errors.AdminShutdown):
        return (
            f"no connection to {where}, or it was lost ({reason}); {stage}. Look whether the "
            "server runs and the address is right, and try again."
        )
    return f"{where} could not do it ({reason}); {stage}."
