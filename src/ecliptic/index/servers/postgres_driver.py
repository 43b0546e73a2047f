"""The library that speaks to PostgreSQL; it comes with the extra `postgres`."""

from ecliptic.errors import MissingExtraError

try:
    import psycopg as psycopg
    from psycopg import sql as sql
except ImportError as error:
    raise MissingExtraError(
        "a PostgreSQL server as a store needs psycopg; run `pip install ecliptic[postgres]`."
    ) from error
