"""A file is replaced atomically, and a draft is never an existing file."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ecliptic.errors import StorageError
from ecliptic.storage import drafts_of, open_draft, replace_file, replace_files, replace_set


def text(content: str):
    return lambda draft: draft.write_text(content)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_file(path, text("one"))
    replace_file(path, text("two"))
    assert path.read_text() == "two"
    assert names(tmp_path) == {"a.txt"}


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    replace_file(tmp_path / "a", lambda draft: (draft.write_text("x"), draft.chmod(0o600)))
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("broken")])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path, error: Exception) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(draft: Path) -> None:
        draft.write_text("half")
        raise error

    wanted = StorageError if isinstance(error, OSError) else ValueError
    with pytest.raises(wanted, match=r"No space left on device; check the path|broken"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x/a cannot be written: No such file or directory"):
        replace_file(tmp_path / "x" / "a", text("one"))


def test_several_files_are_renamed_only_when_all_are_written(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    replace_files({first: text("1"), second: text("2")})

    def fail(_: Path) -> None:
        raise OSError("disk full")

    with pytest.raises(StorageError, match="second cannot be written: disk full"):
        replace_files({first: text("3"), second: fail})
    assert (first.read_text(), second.read_text()) == ("1", "2")
    assert names(tmp_path) == {"first", "second"}


def test_files_that_are_written_side_by_side_are_all_replaced_or_none(tmp_path: Path) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]

    def write(drafts: Mapping[Path, Path], content: bytes, fails: bool) -> None:
        with open_draft(drafts[paths[0]]) as one, open_draft(drafts[paths[1]]) as two:
            one.write(content)
            two.write(content * 2)
            if fails:
                raise OSError("disk full")

    replace_set(paths, lambda drafts: write(drafts, b"1", fails=False))
    assert [path.read_text() for path in paths] == ["1", "11"]
    with pytest.raises(StorageError, match="first cannot be written: disk full"):
        replace_set(paths, lambda drafts: write(drafts, b"2", fails=True))
    assert [path.read_text() for path in paths] == ["1", "11"]
    assert names(tmp_path) == {"first", "second"}


def test_a_check_of_the_drafts_can_keep_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def check(drafts: dict[Path, Path]) -> None:
        assert drafts[path].read_text() == "new"
        raise LookupError("kept")

    with pytest.raises(LookupError):
        replace_files({path: text("new")}, check)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a"}


def test_an_exclusive_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    replace_file(path, text("mine"), exclusive=True)
    with pytest.raises(FileExistsError):
        replace_file(path, text("yours"), exclusive=True)
    assert path.read_text() == "mine"
    assert names(tmp_path) == {"a"}


def test_without_links_an_exclusive_file_is_never_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"
    replace_file(path, text("mine"), exclusive=True)
    with pytest.raises(FileExistsError):
        replace_file(path, text("yours"), exclusive=True)
    assert path.read_text() == "mine"
    assert names(tmp_path) == {"a"}


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    link = tmp_path / "a"
    link.symlink_to(victim)
    replace_file(link, text("new"))
    assert victim.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_drafts_have_names_that_nobody_can_guess(tmp_path: Path) -> None:
    seen: set[str] = set()
    for _ in range(20):
        replace_file(tmp_path / "a", lambda draft: seen.add(draft.name))
    assert len(seen) == 20
    assert all(re.fullmatch(r"\.a\.[0-9a-f]{16}\.draft", name) for name in seen)


def test_a_file_with_the_longest_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".txt")
    replace_file(path, text("x"))
    assert path.read_text() == "x"


def test_a_killed_writer_leaves_the_old_file_and_a_draft_that_is_found(tmp_path: Path) -> None:
    path = tmp_path / "cond-7"
    path.write_text("old")
    code = (
        "import os, sys, pathlib\n"
        "from ecliptic.storage import replace_file\n"
        "def write(draft):\n"
        "    draft.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
        f"replace_file(pathlib.Path({str(path)!r}), write)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert path.read_text() == "old"
    [draft] = drafts_of(tmp_path, "cond-")
    assert draft.read_text() == "half"
    assert drafts_of(tmp_path, "vectors") == []
