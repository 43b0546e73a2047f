"""What a command will write is checked before its work: paths, folders, and what is there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ecliptic.errors import StorageError
from ecliptic.storage import (
    check_folder,
    check_outputs,
    refuse_inputs,
    replace_file,
    start_log,
    stream_writer,
    text_writer,
)
from tests.waiting import special_files


def test_free_names_in_a_folder_pass_and_leave_nothing(tmp_path: Path) -> None:
    check_outputs([tmp_path / "a", tmp_path / "b"], ["a", "no path", "-", "x\0y", "n" * 5000])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "link", "dangling"])
def test_what_exists_is_replaced_only_by_force(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    with pytest.raises(StorageError, match=f"{name} exists; pass --force to replace it"):
        check_outputs([tmp_path / "new", tmp_path / name])
    check_outputs([tmp_path / name], force=True)


def test_folders_pipes_and_devices_are_never_replaced(tmp_path: Path) -> None:
    for path in (*special_files(tmp_path), tmp_path):
        with pytest.raises(StorageError, match="which a file cannot replace"):
            check_outputs([path], force=True)
        with pytest.raises(StorageError, match="which a file cannot replace"):
            replace_file(path, text_writer("x"))
        with pytest.raises(StorageError, match="which a file cannot replace"):
            start_log(path)


def test_an_input_is_never_an_output(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    (tmp_path / "other name").hardlink_to(tmp_path / "model")
    (tmp_path / "link").symlink_to("model")
    for name in ("model", "other name", "link"):
        with pytest.raises(StorageError, match=f"{name} is read by this command"):
            check_outputs([tmp_path / name], [tmp_path / "model"], force=True)
    with pytest.raises(StorageError, match="is read by this command"):
        refuse_inputs([tmp_path], [f"{tmp_path}/."])
    refuse_inputs([tmp_path], [tmp_path / "model"])


def test_inputs_are_looked_at_only_if_an_output_exists(tmp_path: Path) -> None:
    def fail() -> str:
        raise AssertionError("not needed")

    check_outputs([tmp_path / "new"], (fail() for _ in range(1)))


def test_two_outputs_are_not_one_file(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    same = tmp_path / "below" / ".." / "a"
    with pytest.raises(StorageError, match="would be written twice by this command"):
        check_outputs([tmp_path / "a", same], force=True)


def test_a7_the_folder_is_tried_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="none is not a folder"):
        check_outputs([tmp_path / "none" / "a"])
    for below in ("file/a", "file/b/a"):
        with pytest.raises(StorageError, match="file"):
            check_outputs([tmp_path / below], make_folders=True)
    check_outputs([tmp_path / "new" / "folder" / "a"], make_folders=True)
    assert (tmp_path / "new" / "folder").is_dir()
    with pytest.raises(StorageError, match="cannot be the name of a file"):
        check_outputs([tmp_path / ("n" * 300)])


def test_a7_a_folder_without_permission_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the system's refusal is played."""
    opened = os.open

    def refuse(path: object, flags: int, *more: object, **named: object) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(13, os.strerror(13))
        return opened(path, flags, *more, **named)  # type: ignore[arg-type, call-overload]

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageError, match="cannot be written: Permission denied"):
        check_folder(tmp_path, make=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 64 KB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() or not mount or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk  # type: ignore[misc]
    subprocess.run(["umount", str(disk)], check=True)


def test_a6_a_full_disk_keeps_what_was_there(small_disk: Path) -> None:
    path = small_disk / "a"
    replace_file(path, text_writer("old"))
    with pytest.raises(StorageError, match="No space left on device; check the path"):
        replace_file(path, text_writer("x" * 200_000))
    assert [p.name for p in small_disk.iterdir()] == ["a"]
    assert path.read_text() == "old"
    replace_file(path, text_writer("works after space is freed"))
    assert path.read_text().startswith("works")


def test_a6_a_device_that_is_full_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    replace_file(path, text_writer("old"))

    def write(_: Path) -> None:
        with Path("/dev/full").open("wb") as full:
            full.write(b"x")

    with pytest.raises(StorageError, match="No space left on device"):
        replace_file(path, write)
    assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)


def test_a_log_is_a_new_file_and_follows_no_link(tmp_path: Path) -> None:
    victim, hard = tmp_path / "victim", tmp_path / "hard"
    victim.write_text("precious")
    hard.hardlink_to(victim)
    (tmp_path / "link").symlink_to(victim)
    for name in ("link", "hard", "new"):
        with start_log(tmp_path / name) as log:
            log.write("line\n")
            assert (tmp_path / name).read_text() == "line\n"  # read while it grows
        assert not (tmp_path / name).is_symlink()
    assert victim.read_text() == "precious"


def test_a_draft_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")

    def attacked(draft: Path) -> None:
        draft.unlink()
        draft.symlink_to(victim)
        text_writer("new")(draft)

    with pytest.raises(StorageError, match="cannot be written"):
        replace_file(tmp_path / "a", attacked)
    assert victim.read_text() == "precious"


def test_writers_write_utf8_and_bytes(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", text_writer("é\n\ud800"))
    assert (tmp_path / "a").read_bytes() == "é\n\\ud800".encode()
    replace_file(tmp_path / "a", stream_writer(lambda file: file.write(b"\0")))
    assert (tmp_path / "a").read_bytes() == b"\0"
