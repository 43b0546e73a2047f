"""What can be wrong with a store in PostgreSQL, and what can be mended."""

from ecliptic.errors import StorageError
from ecliptic.index.answers import Repaired, StoreProblem
from ecliptic.index.schema import StoreSchema
from ecliptic.index.servers.postgres_driver import sql
from ecliptic.index.servers.postgres_link import PostgresCursor, PostgresLink
from ecliptic.index.servers.postgres_table import KEY, PostgresTable

_BAD_KEY = sql.SQL("{} <> sha256(convert_to(id, 'UTF8'))").format(sql.Identifier(KEY))
_BAD_VECTOR = sql.SQL("abs(vector_norm(vector) - 1) >= 0.001")
_STATE = (
    "SELECT (SELECT relpersistence = 'p' FROM pg_class WHERE oid = to_regclass(%s::text)), "
    "(SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s::text))"
)


def find_problems(
    cursor: PostgresCursor, table: PostgresTable, schema: StoreSchema, where: str, *, deep: bool
) -> list[StoreProblem]:
    """Sentences for people, each with what to do; none if the store is sound."""
    name = f"table {table.name}"
    if not table.exists(cursor):
        return [StoreProblem(name, "the table of its schema is gone; restore it from a backup.")]
    try:
        if table.read(cursor, where) != schema:
            return [StoreProblem(name, "it was made again with another schema; open it again.")]
    except StorageError as error:
        return [StoreProblem(name, str(error))]
    found = table.problems(cursor, schema)
    safe, graph = _read_state(cursor, table)
    if safe is False:
        found.append("it is UNLOGGED, so a crash of the server empties it; run `repair`.")
    if graph is False:
        found.append("its graph was not finished, so it slows down writing; run `repair`.")
    problems = [StoreProblem(name, what) for what in found]
    if cursor.execute("SHOW fsync").fetchone() == ("off",):
        what = "fsync is off, so a loss of power can destroy all; set fsync = on."
        problems.append(StoreProblem("settings of the server", what))
    if deep and not found:
        problems += [StoreProblem(name, what) for what in _find_bad_rows(cursor, table)]
    return problems


def _read_state(cursor: PostgresCursor, table: PostgresTable) -> tuple[bool | None, bool | None]:
    """Whether the table survives a crash, and whether the graph is whole; None if not there."""
    row = cursor.execute(_STATE, [table.name, f"{table.name}_hnsw"]).fetchone()
    return (None, None) if row is None else (row[0], row[1])


def _find_bad_rows(cursor: PostgresCursor, table: PostgresTable) -> list[str]:
    statement = sql.SQL(
        "SELECT count(*) FILTER (WHERE {}), count(*) FILTER (WHERE {}) FROM {}"
    ).format(_BAD_KEY, _BAD_VECTOR, table.rows)
    keys, vectors = cursor.execute(statement).fetchone() or (0, 0)
    return [
        f"{count} rows {what}, so something else wrote or changed them; `repair` deletes them."
        for count, what in (
            (keys, "have a key that is not of their id"),
            (vectors, "have a vector that has not the length 1"),
        )
        if count
    ]


def mend(link: PostgresLink, table: PostgresTable) -> Repaired:
    """Mend what `find_problems` finds and the server can mend."""
    actions = []
    with link.reading() as cursor:
        safe, graph = _read_state(cursor, table)
    if safe is False:
        link.maintain(sql.SQL("ALTER TABLE {} SET LOGGED").format(table.rows))
        actions.append("made the table safe from crashes (SET LOGGED).")
    if graph is False:
        link.maintain(sql.SQL("DROP INDEX {}").format(table.graph))
        actions.append("removed a graph that was not finished; `build_graph` builds it again.")
    with link.writing() as cursor:
        delete = sql.SQL("DELETE FROM {} WHERE {} OR {}")
        lost = cursor.execute(delete.format(table.rows, _BAD_KEY, _BAD_VECTOR)).rowcount
    if lost:
        actions.append(f"deleted {lost} rows whose key or vector is wrong.")
    return Repaired(tuple(actions), lost)
