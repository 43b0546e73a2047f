"""Journals keep every whole line, whatever the killed writer before left."""

import os
from pathlib import Path

import pytest

from ecliptic.errors import StorageError
from ecliptic.storage import (
    JournalPlace,
    WriterLock,
    append_line,
    read_new_lines,
    read_whole_lines,
    replace_file,
    sync_files,
    text_writer,
)


def test_lines_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_whole_lines(path) == []
    lines = ["one", "", "a\u2028b\x85c\x1cd\r", "日本"]
    for line in lines:
        append_line(path, line)
    assert read_whole_lines(path) == lines
    with pytest.raises(ValueError, match="newline"):
        append_line(path, "a\nb")
    assert read_whole_lines(path) == lines


@pytest.mark.parametrize("rest", ["", "half", "half \u00e9"])
def test_a_part_of_a_line_is_left_out_and_cut_off(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"one\n" + rest.encode()[:6])
    assert read_whole_lines(path) == ["one"]
    append_line(path, "two")
    assert path.read_bytes() == b"one\ntwo\n"


def test_only_new_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert read_new_lines(path, None) == ([], None)
    append_line(path, "one" * 40)
    lines, place = read_new_lines(path, None)
    assert lines == ["one" * 40]
    with path.open("ab") as file:
        file.write(b"half")
    assert read_new_lines(path, place) == ([], place)
    append_line(path, "two")
    lines, later = read_new_lines(path, place)
    assert lines == ["two"]
    assert isinstance(later, JournalPlace)
    assert place is not None
    assert later.file == place.file


def test_a_journal_that_was_written_anew_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    append_line(path, "one" * 40)
    _, place = read_new_lines(path, None)
    for number in range(5):  # the system may use an inode again
        replace_file(path, text_writer(f"new {number} " * 40 + "\n"))
        lines, later = read_new_lines(path, place)
        assert lines == [f"new {number} " * 40]
        assert later is not None
        assert place is not None
        assert later.file != place.file
        place = later


def test_a_link_or_a_pipe_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError, match="cannot be written"):
        append_line(tmp_path / "link", "x")
    os.mkfifo(tmp_path / "pipe")
    for read in (read_whole_lines, lambda path: read_new_lines(path, None)):
        with pytest.raises(StorageError, match="a pipe"):
            read(tmp_path / "pipe")


def test_files_that_vanished_need_no_sync(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    sync_files([tmp_path / "a", tmp_path / "gone"])


def test_a_lock_is_held_by_one_and_entered_again_by_its_owner(tmp_path: Path) -> None:
    own, other = WriterLock(tmp_path / "lock"), WriterLock(tmp_path / "lock")
    with own.hold(1), own.hold(1):
        found = pytest.raises(StorageError, match=r"did not end within 0\.05 seconds")
        with found, other.hold(0.05):
            pass
    with other.hold(1):
        pass
