"""Whole files are read up to a limit, whatever their names and sizes say."""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ecliptic.errors import CheckpointError, CorruptFileError, StorageError
from ecliptic.storage import (
    hash_file,
    read_json,
    read_regular,
    read_safetensors,
    read_shards,
    read_tensors,
    read_text,
    read_torch,
    sniff,
)
from tests.waiting import alarm_after, special_files

READERS: list[Callable[[Path], Any]] = [
    hash_file,
    lambda path: read_regular(path, 100),
    read_json,
    read_safetensors,
    read_shards,
    read_tensors,
    read_text,
    read_torch,
    sniff,
]


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    yield from alarm_after(10)


@pytest.mark.parametrize("read", READERS)
def test_pipes_and_devices_are_refused_at_once(read: Callable[[Path], Any], tmp_path: Path) -> None:
    for path in special_files(tmp_path):
        with pytest.raises((StorageError, CheckpointError), match="but must be a"):
            read(path)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(StorageError, match="has more than 4 bytes"):
        read_regular(tmp_path / "a", 4)


def test_a_file_that_grows_after_it_was_opened_is_still_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As do the files of /proc, whose size is 0."""
    (tmp_path / "a").write_bytes(b"x" * 1000)
    monkeypatch.setattr("ecliptic.storage.opening.size_of", lambda _: 0)
    with pytest.raises(CorruptFileError, match="has more than 10 bytes"):
        read_regular(tmp_path / "a", 10, CorruptFileError)


def test_lines_end_alike_in_every_text_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("é\r\nb\rc\n".encode())
    assert read_text(tmp_path / "a") == "é\nb\nc\n"
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(StorageError, match="is not text"):
        read_text(tmp_path / "a", StorageError)


def test_the_digest_is_that_of_all_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    assert hash_file(tmp_path / "a").digest() == hashlib.sha256(b"x" * 300_000).digest()


def test_a_disk_without_mappings_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(19, os.strerror(19))

    monkeypatch.setattr(mmap, "mmap", refuse)
    (tmp_path / "a").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    with pytest.raises(CorruptFileError, match="cannot be mapped into memory"):
        read_safetensors(tmp_path / "a")
