"""The tables of a store in PostgreSQL: their statements, and whether they are as they were made.

A B-tree takes no key of more than 2,704 bytes, and ids may have 8,192, so the key of a row is the
SHA-256 of its id. The schema lies in a second table of one row; a writer holds this row until its
end, so that two writers come one after the other, and see that the store is still the same.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import LiteralString

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.declared import check_same_schema, print_schema, read_schema
from ecliptic.index.schema import StoreSchema
from ecliptic.index.servers.postgres_driver import psycopg, sql
from ecliptic.index.servers.postgres_filters import TYPES, name_column
from ecliptic.index.servers.postgres_link import PostgresCursor, PostgresLink

WIDEST_VECTOR = 16_000  # values, of pgvector's type `vector`
WIDEST_GRAPH = 2_000  # values, of pgvector's HNSW
KEY = "_key"
_TABLE = re.compile("[a-z][a-z0-9_]{0,47}")
_BINARY = {"string": "text", "int": "int8", "float": "float8", "bool": "bool"}
_NO_EXTENSION = (
    "the database has no pgvector; ask its administrator to install pgvector on the server and to "
    "run `CREATE EXTENSION vector` in this database."
)


@dataclass(frozen=True)
class PostgresTable:
    """The names of one store's tables and columns."""

    name: str

    def __post_init__(self) -> None:
        if not _TABLE.fullmatch(self.name):
            raise ConfigError(
                f"{self.name!r} cannot be the table of a store; use lower-case letters, digits and "
                "underscores, at most 48, and begin with a letter: ?table=photos"
            )

    @property
    def rows(self) -> sql.Identifier:
        """The table of the rows."""
        return sql.Identifier(self.name)

    @property
    def declared(self) -> sql.Identifier:
        """The table with the schema."""
        return sql.Identifier(f"{self.name}_schema")

    @property
    def graph(self) -> sql.Identifier:
        """The HNSW index, if there is one."""
        return sql.Identifier(f"{self.name}_hnsw")

    def exists(self, cursor: PostgresCursor) -> bool:
        """Whether the table with the schema is there."""
        return _is_there(cursor, f"{self.name}_schema")

    def read(self, cursor: PostgresCursor, where: str, *, lock: bool = False) -> StoreSchema:
        """The schema that the database has; `lock`: keep other writers out until the end."""
        end: LiteralString = " FOR UPDATE" if lock else ""
        statement = sql.SQL("SELECT schema FROM {}" + end).format(self.declared)
        found = cursor.execute(statement).fetchone()
        return read_schema(found[0] if found else None, where)

    def create(self, link: PostgresLink, schema: StoreSchema) -> None:
        """Make the tables, unless another process just did."""
        if schema.width > WIDEST_VECTOR:
            raise ConfigError(
                f"pgvector holds vectors of at most {WIDEST_VECTOR} values, not {schema.width}."
            )
        with link.writing() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ecliptic'))")
            if self.exists(cursor):
                return
            _add_extension(cursor, link.where)
            if _is_there(cursor, self.name):
                raise StorageError(
                    f"{link.where}: the table {self.name} is no store; use another name."
                )
            cursor.execute(self._statement(schema))
            cursor.execute(sql.SQL("CREATE TABLE {} (schema text NOT NULL)").format(self.declared))
            insert = sql.SQL("INSERT INTO {} VALUES (%s)").format(self.declared)
            cursor.execute(insert, [print_schema(schema)])

    def _statement(self, schema: StoreSchema) -> sql.Composed:
        """CREATE TABLE; rows of up to 8 kB lie in one piece, so a scan reads them in order."""
        columns = [
            sql.SQL(", {} " + TYPES[kind] + (' COLLATE "C"' if kind == "string" else "")).format(
                name_column(name)
            )
            for name, kind in schema.columns.items()
        ]
        return sql.SQL(
            "CREATE TABLE {table} ({key} bytea PRIMARY KEY, "
            'id text COLLATE "C" NOT NULL, vector vector({width}) NOT NULL{columns}, '
            "CHECK ({key} = sha256(convert_to(id, 'UTF8'))), "
            "CHECK (abs(vector_norm(vector) - 1) < 0.001)) WITH (toast_tuple_target = 8160)"
        ).format(
            table=self.rows,
            key=sql.Identifier(KEY),
            width=sql.Literal(schema.width),
            columns=sql.SQL("").join(columns),
        )

    def problems(self, cursor: PostgresCursor, schema: StoreSchema) -> list[str]:
        """What is not as it was made: sentences with what to do."""
        found: dict[str, str] = dict(cursor.execute(_COLUMNS, [self.name]).fetchall())
        if not found:
            return [f"the table {self.name} is gone; restore it from a backup."]
        expected = {KEY: "bytea", ID: "text", VECTOR: f"vector({schema.width})"}
        for name, kind in schema.columns.items():
            expected[name_column(name).as_string().strip('"')] = _LONG[TYPES[kind]]
        problems = [
            f"the column {name} is {found.get(name, 'not there')}, not {kind}; change it back with "
            "ALTER TABLE."
            for name, kind in expected.items()
            if found.get(name) != kind
        ]
        if not cursor.execute(_HAS_KEY, [self.name, KEY]).fetchone():
            problems.append(f"the primary key of {KEY} is gone; add it with ALTER TABLE.")
        return problems


_LONG = {kind: kind for kind in TYPES.values()} | {"timestamp": "timestamp without time zone"}
_COLUMNS = (
    "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = to_regclass(%s::text) AND attnum > 0 AND NOT attisdropped"
)
_HAS_KEY = (
    "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid "
    "WHERE i.indrelid = to_regclass(%s::text) AND i.indisprimary AND i.indisvalid "
    "AND a.attname = %s AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum"
)


def make_key(id_: object) -> bytes | None:
    """The key of an id; None if no row can have this id."""
    if not isinstance(id_, str):
        return None
    return hashlib.sha256(id_.encode("utf-8", "surrogatepass")).digest()


def list_copy_types(schema: StoreSchema, vector_oid: int) -> list[int | str]:
    """Types of the fields of COPY: key, id, vector, columns."""
    columns = [_BINARY.get(kind, "timestamp") for kind in schema.columns.values()]
    return ["bytea", "text", vector_oid, *columns]


def open_table(table: PostgresTable, link: PostgresLink, schema: StoreSchema | None) -> StoreSchema:
    """The schema of the store; with `schema`, the store is made if it is not there.

    Raises:
        StorageError: it is not there, or with another schema, or the database cannot hold it.
    """
    with link.reading() as cursor:
        there = table.exists(cursor)
        encoding = cursor.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        name = encoding[0] if encoding else "unknown"
        raise StorageError(
            f"{link.where}: the encoding of the database is {name}, which cannot hold every text; "
            "use a database that was made with ENCODING 'UTF8'."
        )
    if not there and schema is None:
        raise StorageError(f"there is no store {link.where}; make it first, or look at the name.")
    if not there and schema is not None:
        table.create(link, schema)
        link.read_vector_type()
    if link.vector_oid is None:
        raise StorageError(f"{link.where}: {_NO_EXTENSION}")
    with link.reading() as cursor:
        found = table.read(cursor, link.where)
    if schema is not None:
        check_same_schema(found, schema, link.where)
    return found


def _add_extension(cursor: PostgresCursor, where: str) -> None:
    try:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported) as error:
        raise StorageError(f"{where}: {_NO_EXTENSION}") from error


def _is_there(cursor: PostgresCursor, name: str) -> bool:
    # `to_regclass` answers from a cache, which does not see what was made since the statement began
    found = "SELECT 1 FROM pg_class WHERE relname = %s::text AND pg_table_is_visible(oid)"
    return cursor.execute(found, [name]).fetchone() is not None
