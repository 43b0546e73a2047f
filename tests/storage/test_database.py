"""A damaged database is replaced by a new one; threads and processes share a database."""

import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from ecliptic.errors import StorageError
from ecliptic.storage import (
    Connection,
    DamagedRowError,
    HealingDatabase,
    Presence,
    Schema,
    is_present,
    select,
    transaction,
)
from tests.storage.trees import repeat_page
from tests.waiting import at_most

SCHEMA = Schema("items", ("CREATE TABLE items (name TEXT PRIMARY KEY)",))


def add(connection: Connection, name: str) -> None:
    with transaction(connection):
        connection.execute("INSERT OR REPLACE INTO items VALUES (?)", (name,))


def names(connection: Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM items")}


def damage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def test_what_is_written_is_there_for_the_next(tmp_path: Path) -> None:
    first = HealingDatabase(tmp_path, SCHEMA)
    first.run(add, "a")
    assert HealingDatabase(tmp_path, SCHEMA).run(names) == {"a"}
    assert first.path == tmp_path / "items-1.sqlite"


def test_a_damaged_file_is_left_and_the_next_number_takes_over(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    damage(tmp_path / "items-1.sqlite")
    database.run(add, "b")
    assert database.path.name == "items-2.sqlite"
    assert (tmp_path / "items-1.sqlite").read_bytes().startswith(b"no database")
    assert HealingDatabase(tmp_path, SCHEMA).run(names) == {"b"}


def test_two_that_find_the_damage_share_one_successor(tmp_path: Path) -> None:
    damage(tmp_path / "items-1.sqlite")
    first, second = HealingDatabase(tmp_path, SCHEMA), HealingDatabase(tmp_path, SCHEMA)
    first._number = second._number = 1
    first.run(add, "a")
    second.run(add, "b")
    assert first.path == second.path
    assert first.run(names) == {"a", "b"}


OTHERS = {
    "other columns": "DROP TABLE items; CREATE TABLE items (a, b)",
    "a view": "DROP TABLE items; CREATE VIEW items AS SELECT 'a' AS name",
    "a trigger": "CREATE TRIGGER t BEFORE INSERT ON items BEGIN SELECT RAISE(IGNORE); END",
    "one table more": "CREATE TABLE more (a)",
}


@pytest.mark.parametrize("how", OTHERS)
@pytest.mark.parametrize("opened", [False, True])
def test_a_file_with_other_tables_is_left(tmp_path: Path, how: str, opened: bool) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(add, "a")
    if not opened:
        database.close()
    other = sqlite3.connect(database.path)
    other.executescript(OTHERS[how])
    other.close()
    database.run(add, "b")
    assert database.run(names) == {"b"}
    assert database.path.name == "items-2.sqlite"
    assert database.replaced == [tmp_path / "items-1.sqlite"]


def test_rows_that_an_action_refuses_are_left_with_their_file(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(add, "bad")

    def read(connection: Connection) -> set[str]:
        if "bad" in (found := names(connection)):
            raise DamagedRowError("a bad row")
        return found

    assert database.run(read) == set()
    database.run(add, "bad")
    database.run(add, "good")
    assert database.path.name == "items-2.sqlite"


def test_a_text_that_is_no_utf_8_can_be_read(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(lambda file: file.execute("INSERT INTO items VALUES (CAST(x'61ff' AS TEXT))"))
    assert database.run(names) == {"a\udcff"}


def test_at_most_one_damaged_file_is_kept(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    for _ in range(4):
        database.run(add, "a")
        database.close()
        damage(database.path)
    database.run(add, "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items-4.sqlite", "items-5.sqlite"]


def test_what_is_opened_is_brought_up_to_date(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA, lambda connection: add(connection, "first"))
    assert database.run(names) == {"first"}
    damage(database.path)
    database.close()
    assert database.run(names) == {"first"}


def test_a_transaction_is_whole_or_absent(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)

    def fail(connection: Connection) -> None:
        with transaction(connection):
            connection.execute("INSERT INTO items VALUES ('a')")
            raise LookupError

    with pytest.raises(LookupError):
        database.run(fail)
    assert database.run(names) == set()


def test_a_busy_file_is_never_taken_for_damage(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, Schema("items", SCHEMA.statements, patience=0.01))
    database.run(add, "a")
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="cannot be used: database is locked; check its perm"):
        database.run(add, "b")
    other.execute("ROLLBACK")
    other.close()
    assert database.run(names) == {"a"}
    assert database.path.name == "items-1.sqlite"


def test_a_file_that_cannot_be_opened_is_named_with_the_way_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "items-1.sqlite")
    schema = Schema("items", SCHEMA.statements, advice=", or go without")
    with pytest.raises(StorageError, match=r"items-1\.sqlite cannot be used.*, or go without\."):
        HealingDatabase(tmp_path, schema).run(names)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_only_be_read_gets_a_database_in_memory(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    schema = Schema("items", SCHEMA.statements, in_memory_if_read_only=True)
    database = HealingDatabase(tmp_path, schema)
    database.run(add, "a")
    assert database.run(names) == {"a"}
    assert list(tmp_path.iterdir()) == []


def test_many_values_are_looked_up_in_parts(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    wanted = [str(number) for number in range(1300)]
    for name in wanted[::2]:
        database.run(add, name)
    found = database.run(select, "SELECT name FROM items WHERE name != ? AND name IN", wanted, "0")
    assert {name for (name,) in found} == set(wanted[2::2])


def test_a_value_that_is_asked_for_often_is_found_once(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(add, "a" * 20_000)
    found = database.run(select, "SELECT name FROM items WHERE name IN", ["a" * 20_000] * 1300)
    assert len(found) == 1


@pytest.mark.parametrize("write_ahead", [False, True])
def test_a_tree_that_repeats_one_page_is_damage(tmp_path: Path, write_ahead: bool) -> None:
    """Steps and bytes of a statement are bounded by the size of the file."""
    schema = Schema("items", ("CREATE TABLE items (name TEXT)",), write_ahead=write_ahead)

    def scan(connection: Connection) -> int:
        query = "SELECT COUNT(name) FROM items WHERE name != 'b'"
        return int(connection.execute(query).fetchone()[0])

    def gather(connection: Connection) -> list[object]:
        return [*connection.gather(connection.execute("SELECT name FROM items"))]

    for number, read in enumerate((scan, gather), start=1):
        database = HealingDatabase(tmp_path, schema)
        database.run(lambda file: file.execute("INSERT INTO items VALUES ('a')"))
        database.close()
        repeat_page(database.path, "items", depth=4)
        with at_most(seconds=5, mebibytes=300):
            assert not database.run(read)
        assert database.path.name == f"items-{number + 1}.sqlite"
        database.close()


def test_a_schema_that_repeats_one_page_is_damage(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(add, "a")
    database.close()
    repeat_page(database.path, "sqlite_schema", depth=4)
    with at_most(seconds=5, mebibytes=300):
        database.run(add, "b")
    assert database.path.name == "items-2.sqlite"
    assert database.run(names) == {"b"}


def test_rows_that_share_one_long_value_are_damage(tmp_path: Path) -> None:
    """A value of 1 MB that is stored once and found 300 times."""
    schema = Schema("items", ("CREATE TABLE items (name TEXT)",))
    database = HealingDatabase(tmp_path, schema)
    database.run(lambda file: file.execute("INSERT INTO items VALUES (?)", ("a" * 1_000_000,)))
    database.close()
    repeat_page(database.path, "items", depth=1)
    with at_most(seconds=5, mebibytes=200):
        found = database.run(lambda file: file.gather(file.execute("SELECT name FROM items")))
    assert found == []


def test_a_large_file_is_read_as_a_whole(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    rows = 200_000

    def fill(connection: Connection) -> int:
        with transaction(connection):
            values = ((f"{number:032d}",) for number in range(rows))
            connection.executemany("INSERT INTO items VALUES (?)", values)
            return len(connection.gather(connection.execute("SELECT name FROM items")))

    assert database.run(fill) == rows
    count = "SELECT COUNT(name) FROM items WHERE name LIKE '%1%' OR name LIKE '%2%' OR name != 'b'"
    assert database.run(lambda file: file.execute(count).fetchone()) == (rows,)
    assert database.replaced == []


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal"])
def test_a_folder_in_place_of_a_file_is_left_and_stepped_over(tmp_path: Path, suffix: str) -> None:
    for number in (1, 2):
        (tmp_path / f"items-{number}.sqlite{suffix}").mkdir()
        (tmp_path / f"items-{number}.sqlite{suffix}" / "mine").touch()
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(add, "a")
    assert database.path.name == "items-3.sqlite" if not suffix else "items-2.sqlite"
    assert database.replaced
    damage(database.path)
    database.close()
    database.run(add, "b")
    assert HealingDatabase(tmp_path, SCHEMA).run(names) == {"b"}
    assert len(list(tmp_path.glob("*/mine"))) == 2


def test_threads_share_one(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    threads = [threading.Thread(target=database.run, args=(add, str(n))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(database.run(names)) == 16


def _add_many(folder: Path, start: int) -> None:
    database = HealingDatabase(folder, Schema("items", SCHEMA.statements, write_ahead=True))
    for number in range(start, start + 20):
        database.run(add, str(number))


def test_processes_share_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(tmp_path, 20 * n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(HealingDatabase(tmp_path, SCHEMA).run(names)) == 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    database = HealingDatabase(tmp_path, SCHEMA)
    database.run(add, "a")
    child = os.fork()
    if not child:
        code = 1
        try:
            inherited = database._connection
            database.run(add, "b")
            code = int(database._connection is inherited or len(database.run(names)) != 2)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    database.run(add, "c")
    assert database.run(names) == {"a", "b", "c"}


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_a_link_in_the_place_of_a_file_is_never_followed(
    tmp_path: Path, suffix: str, target: str
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    HealingDatabase(folder, SCHEMA).run(add, "a")
    victim = tmp_path / "victim"
    victim.write_bytes((folder / "items-1.sqlite").read_bytes())
    before = victim.read_bytes()
    link = folder / f"items-1.sqlite{suffix}"
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / target)
    with pytest.raises(StorageError, match="cannot be used: it is a link, not a regular file"):
        HealingDatabase(folder, SCHEMA).run(add, "b")
    assert victim.read_bytes() == before
    assert not (tmp_path / "nothing").exists()


def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "items-1.sqlite")
    with pytest.raises(StorageError, match="not a regular file"):
        HealingDatabase(tmp_path, SCHEMA).run(names)


def test_the_successor_of_a_damaged_file_is_no_link_either(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    damage(folder / "items-1.sqlite")
    database = HealingDatabase(folder, SCHEMA)
    (folder / "items-2.sqlite").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError, match="it is a link"):
        database.run(add, "a")
    database._number = 1  # as if the link were made a moment later
    database._move_on()
    assert not (tmp_path / "victim").exists()


def test_a_linked_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    HealingDatabase(tmp_path / "link", SCHEMA).run(add, "a")
    assert HealingDatabase(tmp_path / "real", SCHEMA).run(names) == {"a"}


def _look(path: str, found: "multiprocessing.Queue[bool]") -> None:
    found.put(is_present(Path(path)))


def test_a_presence_is_seen_by_others_until_it_is_closed(tmp_path: Path) -> None:
    path, context = tmp_path / "writer.sqlite", multiprocessing.get_context("spawn")
    assert not is_present(path)
    here, found = Presence(path), context.Queue()
    other = context.Process(target=_look, args=(str(path), found))
    other.start()
    assert found.get(timeout=60)
    other.join()
    assert is_present(path)  # also within the process
    (tmp_path / "link").symlink_to(path)
    assert not is_present(tmp_path / "link")
    here.close()
    assert not is_present(path)
    path.write_bytes(b"left by a killed process")
    assert not is_present(path)
