"""A6, A7: a disk that is full, and a folder that may only be read."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ecliptic.errors import StorageError
from ecliptic.index import Store, open_store
from tests.index.rows import SCHEMA, content, put, random_vectors, small_store

SIZE = 4 << 20  # bytes of the disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system, which only root has")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, left: int) -> None:
    """Write a file that leaves `left` bytes."""
    about = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(max(0, about.f_bavail * about.f_frsize - left)))


def add(store: Store) -> None:
    put(store, 100, 20)


def delete(store: Store) -> None:
    store.delete(where="size < 3")


def failure(action: Callable[[Store], object], store: Store) -> str:
    """The message of its error; "" if there was none."""
    try:
        action(store)
    except StorageError as error:
        return str(error)
    return ""


ACTIONS: dict[str, Callable[[Store], object]] = {
    "add": add,
    "delete": delete,
    "compact": lambda store: store.compact(),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a6_a_full_disk_loses_nothing(disk: Path, action: str) -> None:
    store = small_store(disk / "store")
    failed = 0
    for left in (0, 4096, 8192, 12288, 16384, 24576, 65536):
        before = content(store)
        fill(disk, left)
        if error := failure(ACTIONS[action], store):
            failed += 1
            assert "free" in error
            kept = set(before) if action == "add" else set(before) - {"row-0", "row-1", "row-2"}
            assert kept <= content(store).keys()
        (disk / "filler").unlink()
        ACTIONS[action](store)  # it is right to repeat it
        wanted = open_store("memory:", SCHEMA)
        for first in (0, 5, 10):
            put(wanted, first, 5)
        if action != "compact":
            ACTIONS[action](wanted)
        assert content(store) == content(wanted)
        assert store.check(deep=True) == []
        store.delete(list(content(store)))
        for first in (0, 5, 10):
            put(store, first, 5)
    assert failed, "the disk was never full"


def test_a6_codes_that_find_no_room_stay_in_memory(disk: Path) -> None:
    store = small_store(disk / "store")
    wanted = open_store("memory:", SCHEMA)
    for first in (0, 5, 10):
        put(wanted, first, 5)
    fill(disk, 0)
    query = random_vectors(1, 77)[0]
    assert store.search(query, 4).hits[0].ids == wanted.search(query, 4).hits[0].ids
    assert not list((disk / "store").glob("codes/*.safetensors"))


def test_a7_a_folder_that_may_only_be_read_is_searched_but_not_written(disk: Path) -> None:
    before = content(small_store(disk / "store"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    store = open_store(disk / "store", SCHEMA)
    assert content(store) == before
    assert len(store.search(np.ones(8), 4, "size > 3").hits[0].ids) == 4
    assert store.check(deep=True) == []
    for write in (add, delete, lambda store: store.compact(), lambda store: store.repair()):
        with pytest.raises(StorageError, match=r"(?i)read-only file system|it is not allowed"):
            write(store)
    with pytest.raises(StorageError, match="you may write"):
        open_store(disk / "new", SCHEMA)
