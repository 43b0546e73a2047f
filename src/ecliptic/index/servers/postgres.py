"""`PostgresStore`: rows in a table of PostgreSQL, searched with pgvector.

    postgresql://user@host:port/database?table=photos

The password comes from the URL, from PGPASSWORD or from `~/.pgpass`. An answer is exact: the server
finds the rows whose score is near the K-th best, and these are scored again in float64. Only after
`build_graph` a search without filter and without `exact=True` may miss some rows.

N rows, E vector size, Q queries, K hits.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index.answers import Hits, Repaired, SearchPlan, SearchResult, StoreProblem
from ecliptic.index.batches import RowBatch
from ecliptic.index.columns import ID, VECTOR
from ecliptic.index.filters.tree import Filter
from ecliptic.index.requests import ReadRequest, SearchRequest
from ecliptic.index.schema import RowBlock, StoreSchema
from ecliptic.index.servers.address import ServerAddress, read_address
from ecliptic.index.servers.candidates import (
    BLOCK,
    find_candidates,
    rank_exactly,
    score_margin,
)
from ecliptic.index.servers.postgres_driver import sql
from ecliptic.index.servers.postgres_filters import Condition, filter_to_sql, name_column
from ecliptic.index.servers.postgres_health import find_problems, mend
from ecliptic.index.servers.postgres_link import PostgresCursor, PostgresLink, join_vectors
from ecliptic.index.servers.postgres_table import (
    KEY,
    WIDEST_GRAPH,
    PostgresTable,
    list_copy_types,
    make_key,
    open_table,
)
from ecliptic.index.store import Store

FEWEST_FOR_GRAPH = 50_000  # rows; fewer are scanned
_LOOKED_AT = 400  # rows that a search in the graph keeps (`hnsw.ef_search`)
_MOST_GRAPH_HITS = _LOOKED_AT // 2  # for more hits all rows are scanned
_FORM = "postgresql://user@host:port/database?table=photos"
_OPTIONS = (
    "application_name", "connect_timeout", "host", "passfile", "service", "sslcert", "sslkey",
    "sslmode", "sslrootcert", "table",
)  # fmt: skip
_KEY = sql.Identifier(KEY)


class PostgresStore(Store):
    """A store in a PostgreSQL server; made by `PostgresStore.open`."""

    def __init__(self, link: PostgresLink, table: PostgresTable, schema: StoreSchema) -> None:
        self.schema = schema
        self._link, self._table = link, table

    @classmethod
    def open(cls, url: str, schema: StoreSchema | None = None) -> Self:
        """The store at `url`.

        Args:
            url: as in the head of this file; also with the options of libpq that name a socket
                folder (`host`), certificates (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`), a
                `service`, a `passfile`, `connect_timeout`, `application_name`.
            schema: make the store if it is not there; None: it must be there.

        Raises:
            ConfigError: another form of URL, or a schema that pgvector cannot hold.
            StorageError: no connection, no pgvector, no such store, or one with another schema.
        """
        address = read_address(url, ("postgresql", "postgres"), _FORM, _OPTIONS)
        if not address.options.get("table"):
            raise ConfigError(f"the address names no table; write {_FORM}.")
        table = PostgresTable(address.options["table"])
        link = PostgresLink(_connection_parameters(address), str(address))
        try:
            return cls(link, table, open_table(table, link, schema))
        except BaseException:
            link.close()
            raise

    def close(self) -> None:
        """End the connection; the next call would make a new one."""
        self._link.close()

    def __len__(self) -> int:
        with self._link.reading() as cursor:
            return self._count(cursor, filter_to_sql(None, {}))

    def check(self, *, deep: bool = False) -> list[StoreProblem]:
        """What is wrong with the tables or the settings of the server.

        Args:
            deep: read every row, and compare its key and the length of its vector.
        """
        with self._link.reading() as cursor:
            return find_problems(cursor, self._table, self.schema, self._link.where, deep=deep)

    def repair(self, *, drop: bool = False) -> Repaired:  # noqa: ARG002
        """Mend what can be mended: a table that is not crash-safe, a half-built graph, bad rows.

        Bad rows are removed with `drop` and without.
        """
        return mend(self._link, self._table)

    def compact(self, *, now: bool = False) -> None:  # noqa: ARG002 - of files
        """VACUUM and ANALYZE: give back the room of old rows, and count anew for the planner."""
        self._link.maintain(sql.SQL("VACUUM (ANALYZE) {}").format(self._table.rows))

    def build_graph(self) -> None:
        """Build an HNSW index, for tables too large to scan at each search.

        It needs minutes for a million rows, and others can write meanwhile. Searches without a
        filter use it from 50,000 rows on, for at most 200 hits, unless they are `exact`.

        Raises:
            ConfigError: the vectors are too wide for pgvector's HNSW.
        """
        if self.schema.width > WIDEST_GRAPH:
            raise ConfigError(
                f"pgvector builds HNSW for at most {WIDEST_GRAPH} values, and this store has "
                f"{self.schema.width}; searches stay exact scans."
            )
        statement = "CREATE INDEX CONCURRENTLY IF NOT EXISTS {} ON {} USING hnsw (vector {})"
        operators = sql.Identifier("vector_ip_ops")
        graph, rows = self._table.graph, self._table.rows
        self._link.maintain(sql.SQL(statement).format(graph, rows, operators))

    def _count(self, cursor: PostgresCursor, condition: Condition) -> int:
        test, values = condition
        statement = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._table.rows, test)
        return _one(cursor.execute(statement, values).fetchone())

    def _hold(self, cursor: PostgresCursor) -> None:
        """Keep other writers out until the end of the transaction."""
        if self._table.read(cursor, self._link.where, lock=True) != self.schema:
            raise StorageError(
                f"{self._link.where} was made again with another schema; open it again."
            )

    def _write(self, batch: RowBatch) -> int:
        names = [KEY, ID, VECTOR, *(name for name in self.schema.columns)]
        fields = [_KEY, *map(name_column, names[1:])]
        listed = sql.SQL(", ").join(fields)
        new = sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(field) for field in fields)
        incoming, rows = sql.Identifier("_incoming_rows"), self._table.rows
        make = sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(incoming, rows)
        count = sql.SQL("SELECT count(*) FROM {} JOIN {} USING ({})").format(incoming, rows, _KEY)
        insert = sql.SQL(
            "INSERT INTO {rows} ({listed}) SELECT {listed} FROM {incoming} "
            "ON CONFLICT ({key}) DO UPDATE SET {new}"
        ).format(rows=rows, listed=listed, incoming=incoming, key=_KEY, new=new)
        with self._link.writing() as cursor:
            self._hold(cursor)
            cursor.execute(make)
            self._copy(cursor, batch, incoming, listed)
            replaced = _one(cursor.execute(count).fetchone())
            cursor.execute(insert)
        return replaced

    def _copy(
        self,
        cursor: PostgresCursor,
        batch: RowBatch,
        table: sql.Composable,
        fields: sql.Composable,
    ) -> None:
        oid = self._link.vector_oid
        if oid is None:
            raise StorageError(f"{self._link.where}: pgvector is gone; `check` tells what to do.")
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, fields)
        keys = map(make_key, batch.ids)
        with cursor.copy(statement) as copy:
            copy.set_types(list_copy_types(self.schema, oid))
            columns = [batch.columns[name] for name in self.schema.columns]
            for row in zip(keys, batch.ids, batch.vectors, *columns, strict=True):
                copy.write_row(row)

    def _delete_ids(self, ids: tuple[str, ...]) -> int:
        return self._delete((sql.SQL("{} = ANY(%s::bytea[])").format(_KEY), [_make_keys(ids)]))

    def _delete_where(self, tree: Filter) -> int:
        return self._delete(filter_to_sql(tree, self.schema.columns))

    def _delete(self, condition: Condition) -> int:
        test, values = condition
        statement = sql.SQL("DELETE FROM {} WHERE {}").format(self._table.rows, test)
        with self._link.writing() as cursor:
            self._hold(cursor)
            return cursor.execute(statement, values).rowcount

    def _search(self, wanted: SearchRequest) -> SearchResult:
        condition = filter_to_sql(wanted.tree, self.schema.columns)
        with self._link.reading() as cursor:
            candidates = self._count(cursor, condition)
            graph = (
                not wanted.exact
                and wanted.tree is None
                and self._prefers_graph(cursor, wanted.k, candidates)
            )
            answers = [
                self._nearest(cursor, q, wanted.k, condition, graph=graph) for q in wanted.queries
            ]
            if graph and any(len(hits.ids) < min(wanted.k, candidates) for hits, _ in answers):
                graph = False  # rows that were deleted since the last VACUUM fill the graph
                answers = [
                    self._nearest(cursor, q, wanted.k, condition, graph=False)
                    for q in wanted.queries
                ]
        scored = sum(rows for _, rows in answers)
        plan = SearchPlan("graph" if graph else "scan", candidates, scored)
        return self._with_columns([hits for hits, _ in answers], plan, wanted.columns)

    def _prefers_graph(self, cursor: PostgresCursor, k: int, rows: int) -> bool:
        """Whether a graph is there and worth it; then the transaction is set to use it."""
        if k > _MOST_GRAPH_HITS or rows < FEWEST_FOR_GRAPH:
            return False
        ready = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s::text)"
        if cursor.execute(ready, [f"{self._table.name}_hnsw"]).fetchone() != (True,):
            return False
        cursor.execute("SELECT set_config('enable_seqscan', 'off', true)")
        cursor.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(_LOOKED_AT)])
        return True

    def _nearest(
        self,
        cursor: PostgresCursor,
        query: NDArray[np.float32],
        k: int,
        condition: Condition,
        *,
        graph: bool,
    ) -> tuple[Hits, int]:
        """The hits of one query, and how many rows were scored again."""
        test, values = condition
        # An index of `vector <#> query` does not answer ORDER BY 0 + (vector <#> query).
        order = sql.SQL("vector <#> %s" if graph else "0 + (vector <#> %s)")
        statement = sql.SQL("SELECT {}, {order} FROM {} WHERE {} ORDER BY {order} LIMIT %s").format(
            _KEY, self._table.rows, test, order=order
        )

        def fetch(limit: int) -> list[tuple[bytes, float]]:
            rows = cursor.execute(statement, [query, *values, query, limit]).fetchall()
            return [(key, -distance) for key, distance in rows]

        keys = find_candidates(fetch, k, score_margin(self.schema.width))
        blocks = (self._fetch(cursor, keys[at : at + BLOCK]) for at in range(0, len(keys), BLOCK))
        return rank_exactly(blocks, query, k)

    def _fetch(
        self, cursor: PostgresCursor, keys: list[bytes]
    ) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        block = self._block(self._select(cursor, keys, (), vectors=True), (), vectors=True)
        return block.ids, block.vectors  # type: ignore[return-value] # they were asked for

    def _read(self, wanted: ReadRequest) -> Iterator[RowBlock]:
        if wanted.ids is not None:
            keys = _make_keys(wanted.ids)
            for at in range(0, max(len(keys), 1), BLOCK):
                with self._link.reading() as cursor:
                    rows = self._select(
                        cursor, keys[at : at + BLOCK], wanted.columns, vectors=wanted.vectors
                    )
                yield self._block(rows, wanted.columns, vectors=wanted.vectors)
            return
        test, values = filter_to_sql(wanted.tree, self.schema.columns)
        statement = self._selection(test, wanted.columns, vectors=wanted.vectors)
        with self._link.streaming("rows") as cursor:
            cursor.execute(statement, values)
            rows = cursor.fetchmany(BLOCK)
            yield self._block(
                rows, wanted.columns, vectors=wanted.vectors
            )  # one block even of no rows
            while rows := cursor.fetchmany(BLOCK):
                yield self._block(rows, wanted.columns, vectors=wanted.vectors)

    def _select(
        self,
        cursor: PostgresCursor,
        keys: list[bytes],
        columns: tuple[str, ...],
        *,
        vectors: bool,
    ) -> list[tuple[Any, ...]]:
        test = sql.SQL("{} = ANY(%s::bytea[])").format(_KEY)
        return cursor.execute(self._selection(test, columns, vectors=vectors), [keys]).fetchall()

    def _selection(
        self, test: sql.Composable, columns: tuple[str, ...], *, vectors: bool
    ) -> sql.Composed:
        names = [ID, *columns, *([VECTOR] if vectors else [])]
        listed = sql.SQL(", ").join(map(name_column, names))
        return sql.SQL("SELECT {} FROM {} WHERE {}").format(listed, self._table.rows, test)

    def _block(
        self, rows: Sequence[tuple[Any, ...]], columns: tuple[str, ...], *, vectors: bool
    ) -> RowBlock:
        values = {name: [row[at] for row in rows] for at, name in enumerate(columns, 1)}
        matrix = join_vectors([row[-1] for row in rows], self.schema.width) if vectors else None
        return RowBlock(tuple(row[0] for row in rows), values, matrix)


def _connection_parameters(address: ServerAddress) -> dict[str, Any]:
    given = {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "password": address.password,
        "dbname": address.path,
    }
    options = {name: value for name, value in address.options.items() if name != "table"}
    return {name: value for name, value in given.items() if value} | options


def _make_keys(ids: Sequence[object]) -> list[bytes]:
    return [key for key in map(make_key, ids) if key is not None]


def _one(row: tuple[Any, ...] | None) -> int:
    return 0 if row is None else int(row[0])
