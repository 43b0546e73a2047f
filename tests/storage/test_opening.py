"""Files are opened without waiting, and only regular ones are read."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecliptic.errors import CorruptFileError, StorageError
from ecliptic.storage import open_regular, read_regular
from tests.waiting import at_most


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    signal.alarm(10)  # ends the run if an open waits
    yield
    signal.alarm(0)


def test_a_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"abc"


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match=r"pipe is a pipe \(FIFO\), but must be a regular file"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused_with_the_class_of_the_caller(device: str) -> None:
    with pytest.raises(CorruptFileError, match=f"{device} is a device"):
        open_regular(device, CorruptFileError)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder, but must be a file"):
        open_regular(tmp_path)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(StorageError, match="socket is a socket"):
            open_regular("socket")


def test_a_missing_file_stays_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_a_small_file_takes_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"abc")
    with at_most(seconds=5, mebibytes=1):
        assert read_regular(path, 1 << 30) == b"abc"
        assert read_regular(path, 3) == b"abc"
    with pytest.raises(StorageError, match="more than 2 bytes"):
        read_regular(path, 2)
    if Path("/proc/version").exists():  # its size is 0
        assert read_regular("/proc/version", 1 << 20).startswith(b"Linux")
        with pytest.raises(StorageError, match="more than 5 bytes"):
            read_regular("/proc/version", 5)
