"""An SQLite database that replaces a damaged file by a new one and keeps the old for inspection.

The files of a database are NAME-1.sqlite, NAME-2.sqlite, ...; the highest number is in use. A
damaged file is never renamed or removed while another process may have it open, because that could
damage the new file (sqlite.org/howtocorrupt.html, 2.4). Threads and processes, also forked ones,
may share a database. A file that is a link is refused: in a folder that others may write, it could
name any database of the user.

A file counts as damaged if SQLite says so, if it has other tables, views or triggers than its
schema, or if an action finds a row that it cannot have written (`DamagedRowError`). SQLite has no
checksums: an owner that must notice a changed byte stores a checksum in every row.

In a damaged file, one page may stand in thousands of places of a tree, so that 32 KB hold billions
of rows. The steps of a statement and the bytes of its rows are therefore bounded by the size of the
file. Count with `COUNT(column)`: SQLite runs `COUNT(*)` in one step, which nothing bounds.
"""

import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from ecliptic.errors import StorageError
from ecliptic.storage.opening import describe_kind

R = TypeVar("R")
StoredRow = tuple[Any, ...]
AT_ONCE = 500  # parameters of one SQL statement
_SUFFIXES = ("", "-journal", "-wal", "-shm")  # of the files that SQLite keeps together
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_TEXT = partial(str, encoding="utf-8", errors="surrogateescape")  # damage may be no UTF-8
LARGEST = 16 << 20  # bytes of a value; a damaged length must not reserve a gigabyte
_TICK = 10_000  # steps of SQLite between two looks at the budget
_FREE_STEPS = 3_000_000  # of any statement, under 1 s; a row takes fewer steps than it has bytes
_UNSAVED = 3 << 20  # bytes; of a transaction, SQLite keeps 2 MB in memory, not yet in the file
_OUTSIDE = {  # the cause is not in the file; everything else that SQLite reports is damage
    0,  # an error of the Python module
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}


class DamagedRowError(sqlite3.DatabaseError):
    """An action raises it for rows that it cannot have written; `run` then takes a new file."""


@dataclass
class _Meter:
    """Counts the steps of one statement on the file `path`."""

    path: Path
    ticks: int = 0

    def size(self) -> int:
        """Bytes of the file, and of what was written and not yet moved into it."""
        sizes = []
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                sizes.append(Path(f"{self.path}{suffix}").stat().st_size)
        return sum(sizes)

    def tick(self) -> bool:
        """Whether the statement has taken more steps than the file has rows."""
        self.ticks += 1
        steps = self.ticks * _TICK
        return steps > _FREE_STEPS and steps > _FREE_STEPS + self.size()


class Connection(sqlite3.Connection):
    """A connection whose statements end in time; the content of a file bounds what they give."""

    _meter: _Meter | None = None  # in memory, nothing is damaged

    def watch(self, path: Path) -> None:
        """End statements that take more steps than the file `path` can need."""
        self._meter = _Meter(path.absolute())  # also after a change of folder
        self.set_progress_handler(self._meter.tick, _TICK)

    def execute(self, query: str, values: Any = (), /) -> sqlite3.Cursor:
        """Run one statement."""
        return super().execute(query, self._restart(values))

    def executemany(self, query: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement for each of `rows`, each with its own budget."""
        return super().executemany(query, map(self._restart, rows))

    def gather(self, rows: Iterable[StoredRow]) -> list[StoredRow]:
        """List rows of the file.

        Raises:
            DamagedRowError: they have more bytes than the file.
        """
        if self._meter is None:
            return list(rows)
        found, left = [], self._meter.size() + (_UNSAVED if self.in_transaction else 0)
        for row in rows:
            texts = sum(len(value) for value in row if isinstance(value, bytes | str))
            left -= texts + len(row) + 4  # at least: a byte per column, and 4 for the row
            if left < 0:
                raise DamagedRowError("its rows have more bytes than it has itself")
            found.append(row)
        return found

    def _restart(self, values: Any) -> Any:
        """Give the statement with these `values` a new budget; returns them."""
        if self._meter is not None:
            self._meter.ticks = 0
        return values


@dataclass(frozen=True)
class Schema:
    """The name, tables and settings of a database."""

    name: str  # of its files, without the number
    statements: tuple[str, ...]  # "CREATE TABLE ...", run in an empty file; all that it may hold
    patience: float = 30.0  # seconds to wait for another process
    page_size: int = 4096  # bytes, of a new file
    write_ahead: bool = False  # WAL: readers and a writer do not wait for each other
    in_memory_if_read_only: bool = False  # for data that other files can rebuild
    advice: str = ""  # how to continue without it, ends error messages


class HealingDatabase:
    """The database of one folder."""

    def __init__(
        self, folder: Path, schema: Schema, prepare: Callable[[Connection], object] = lambda _: None
    ) -> None:
        """Describe the database; the first use opens it.

        Args:
            folder: must exist.
            schema: its name, tables and settings.
            prepare: called with each new connection, to bring an old or new file up to date.
        """
        self.folder = folder
        self._schema = schema
        self._prepare = prepare
        self._pattern = re.compile(rf"{re.escape(schema.name)}-([1-9]\d*)\.sqlite")
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._inherited: Connection | None = None  # a forked child's, from its parent
        self._owner = os.getpid()
        self._number = 1  # of the file in use
        self._version = 0  # of its tables, which SQLite counts up at each change
        self.replaced: list[Path] = []  # damaged files that this object left

    @property
    def path(self) -> Path:
        """The file in use."""
        return self._path_of(self._number)

    def run(self, action: Callable[..., R], *given: object, **more: object) -> R:
        """Call `action(connection, ...)`; if the file is damaged, call it again on a new file.

        Raises:
            StorageError: the file cannot be used.
        """
        with self._lock:
            try:
                try:
                    return action(self._open(), *given, **more)
                except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                    if not self._is_damage(error):  # locked, full, forbidden
                        raise
                    self._move_on()
                    return action(self._open(), *given, **more)
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"the cache {self.path} cannot be used: {error}; check its permissions and "
                    f"the free space{self._schema.advice}."
                ) from error

    def close(self) -> None:
        """Close the file; using the database opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._owner != os.getpid():  # never use or close the parent's connection
            self._inherited, self._connection = self._connection, None
            self._owner = os.getpid()
        if self._connection is None:
            self._number = self._newest()
            while self._is_folder():
                self._move_on()
                self._number = self._newest()
            self._refuse_links()
            self._connection = _connect(self.path, self._schema)
            self._version = _read_version(self._connection)
            self._prepare(self._connection)
        elif (version := _read_version(self._connection)) != self._version:
            _make_tables(self._connection, self._schema)
            self._version = version
        return self._connection

    def _is_damage(self, error: Exception) -> bool:
        if isinstance(error, UnicodeDecodeError):  # SQLite quotes a damaged name in its message
            return True
        if _code(error) == sqlite3.SQLITE_READONLY:  # by its permissions, or by its first bytes?
            return os.access(self.path, os.W_OK) and os.access(self.folder, os.W_OK)
        return isinstance(error, DamagedRowError) or _code(error) not in _OUTSIDE

    def _move_on(self) -> None:
        """Switch to the next file, which another process may have made already."""
        damaged = self._number
        self.replaced.append(self.path)
        self.close()
        if self._newest() == damaged:
            with suppress(FileExistsError):  # another process was faster
                os.close(os.open(self._path_of(damaged + 1), _NEW, 0o666))
        for suffix in _SUFFIXES:  # keep at most two files
            with suppress(OSError):  # a folder in its place is left
                Path(f"{self._path_of(damaged - 1)}{suffix}").unlink(missing_ok=True)

    def _is_folder(self) -> bool:
        """Whether a folder has the name of the file, or of one that SQLite would put beside it."""
        paths = (Path(f"{self.path}{suffix}") for suffix in _SUFFIXES)
        return any(path.is_dir() and not path.is_symlink() for path in paths)

    def _refuse_links(self) -> None:
        """Raise StorageError if SQLite would follow a link, or open a pipe or device.

        `open_regular` would not do: closing a file drops SQLite's locks on it in this process.
        """
        for suffix in _SUFFIXES:
            path = Path(f"{self.path}{suffix}")
            with suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if not stat.S_ISREG(mode):
                    kind = "a link" if stat.S_ISLNK(mode) else describe_kind(mode)
                    raise StorageError(
                        f"the cache {path} cannot be used: it is {kind}, not a regular file; "
                        f"remove it, or link the whole folder{self._schema.advice}."
                    )

    def _path_of(self, number: int) -> Path:
        return self.folder / f"{self._schema.name}-{number}.sqlite"

    def _newest(self) -> int:
        names = (self._pattern.fullmatch(path.name) for path in self.folder.iterdir())
        return max((int(name[1]) for name in names if name), default=1)


class Presence:
    """A file of its own that is locked until it is closed or its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.executescript("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")

    def close(self) -> None:
        """Unlock and remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def is_present(path: Path) -> bool:
    """Whether a living process holds the `Presence` of this file."""
    if path.is_symlink() or not path.is_file():
        return False
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as file:
        try:
            file.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            return _code(error) == sqlite3.SQLITE_BUSY
    return False


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """Take the write lock and run one transaction; an error rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def select(
    connection: Connection, query: str, values: Sequence[object], first: Sequence[object] = ()
) -> list[StoredRow]:
    """Run a query that ends in "IN" for all `values`, at most `AT_ONCE` of them per statement.

    Args:
        connection: to the database.
        query: with a "?" for each of `first`, then "... IN".
        values: the items of the list after "IN".
        first: parameters before the list.
    """
    once = list(dict.fromkeys(values))  # so that no row is found twice
    parts = (once[start : start + AT_ONCE] for start in range(0, len(once), AT_ONCE))
    found = (
        connection.execute(f"{query} ({','.join('?' * len(some))})", (*first, *some))
        for some in parts
    )
    return connection.gather(chain.from_iterable(found))


def _connect(path: Path, schema: Schema) -> Connection:
    """Open the file and make its tables; wait for processes that do the same."""
    in_memory = schema.in_memory_if_read_only and not os.access(path.parent, os.W_OK)
    connection = sqlite3.connect(
        ":memory:" if in_memory else path,
        timeout=schema.patience,
        isolation_level=None,  # only `transaction` begins transactions
        check_same_thread=False,
        factory=Connection,
    )
    try:
        if not in_memory:
            connection.watch(path)
        connection.text_factory = _TEXT
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute(f"PRAGMA page_size = {schema.page_size}")
        if schema.write_ahead:
            _use_write_ahead(connection, time.monotonic() + schema.patience)
        _make_tables(connection, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_tables(connection: Connection, schema: Schema) -> None:
    """Make the tables in an empty file; raise DamagedRowError if the file holds others."""
    wanted = _expect(schema.statements)
    if _read_tables(connection) == wanted:
        return
    with transaction(connection):
        found = _read_tables(connection)
        if not found:
            for statement in schema.statements:
                connection.execute(statement)
        elif found != wanted:
            raise DamagedRowError("it has other tables than those of this version")


@cache
def _expect(statements: tuple[str, ...]) -> list[Any]:
    """What `_read_tables` finds in a file with these tables."""
    connection = sqlite3.connect(":memory:", factory=Connection)
    for statement in statements:
        connection.execute(statement)
    found = _read_tables(connection)
    connection.close()
    return found


def _read_tables(connection: Connection) -> list[Any]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema"
    return sorted(connection.gather(connection.execute(query)), key=repr)


def _read_version(connection: Connection) -> int:
    return int(connection.execute("PRAGMA schema_version").fetchone()[0])


def _use_write_ahead(connection: Connection, until: float) -> None:
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")  # gives up at once when busy
            break
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous = NORMAL")


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for errors of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
