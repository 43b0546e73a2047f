"""A folder appears whole or not at all, and an existing one stays as it was after a failure."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ecliptic.errors import StorageError
from ecliptic.storage import fill_folder


def writer(*names: str, fails: bool = False) -> Callable[[Path], None]:
    def write(draft: Path) -> None:
        for name in names:
            (draft / name).write_text(f"new {name}")
        if fails:
            raise ValueError("it failed")

    return write


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_appears_whole_with_those_above_it(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    fill_folder(out, writer("one", "last"), last="last")
    assert content(out) == {"one": "new one", "last": "new last"}
    assert [path.name for path in out.parent.iterdir()] == ["b"]


def test_an_existing_folder_loses_only_what_is_stale(tmp_path: Path) -> None:
    for name in ("one", "two", "last", "mine"):
        (tmp_path / name).write_text("old")
    fill_folder(tmp_path, writer("one", "last"), last="last", stale=["one", "two", "three"])
    assert content(tmp_path) == {"one": "new one", "last": "new last", "mine": "old"}


@pytest.mark.parametrize("name", ["new", "old"])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, name: str) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "one").write_text("old")
    with pytest.raises(ValueError, match="it failed"):
        fill_folder(tmp_path / name, writer("one", fails=True), last="last", stale=["one"])
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert content(tmp_path / "old") == {"one": "old"}


def test_a_folder_in_the_place_of_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "last").write_text("old")
    with pytest.raises(StorageError, match="which a file cannot replace"):
        fill_folder(tmp_path, writer("one", "last"), last="last")
    assert (tmp_path / "last").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "one"]


def test_a_file_in_the_place_of_the_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StorageError, match="cannot be a folder"):
        fill_folder(tmp_path / "out", writer("last"), last="last")
    assert content(tmp_path) == {"out": "mine"}


def test_a_link_to_a_folder_is_followed_and_one_in_the_place_of_a_file_is_replaced(
    tmp_path: Path,
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "real" / "one").symlink_to(tmp_path / "victim")
    (tmp_path / "link").symlink_to("real")
    fill_folder(tmp_path / "link", writer("one", "last"), last="last")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == {"one": "new one", "last": "new last"}
    assert (tmp_path / "victim").read_text() == "precious"
