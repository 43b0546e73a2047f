"""A name that no file can have is refused with a typed error, not with Python's own."""

import os
from pathlib import Path

import pytest

from ecliptic.errors import InputError, StorageError
from ecliptic.storage import check_path, make_folder, open_regular, replace_file

IMPOSSIBLE = {
    "a lone surrogate": ("a\ud800b", "lone surrogate"),
    "NUL": ("a\0b", "character NUL"),
    "300 bytes": ("a" * 300, "too long"),
    "a long path": ("/".join(["a" * 200] * 30), "too long"),
}


@pytest.mark.parametrize(("name", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_c11_an_impossible_name_is_a_typed_error(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    for call in (
        lambda: check_path(path),
        lambda: make_folder(path),
        lambda: make_folder(path / "below"),
        lambda: open_regular(path),
        lambda: replace_file(path, lambda draft: draft.write_text("")),
    ):
        with pytest.raises(StorageError, match=reason) as refusal:
            call()
        assert len(str(refusal.value)) < 300
    with pytest.raises(InputError, match=reason):
        check_path(path, InputError)
    assert list(tmp_path.iterdir()) == []


def test_every_other_name_passes(tmp_path: Path) -> None:
    for name in ("a", "b\udc80", "\u202e", "\x1b", "a" * 255, "..", " ", "a\nb"):
        check_path(tmp_path / name)
        check_path(os.fspath(tmp_path / "missing" / name))
    (tmp_path / "file").touch()
    check_path(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="cannot be a folder, because"):
        make_folder(tmp_path / "file" / "below")


def test_c11_a_name_that_is_not_utf_8_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\x80\xff.bin")
    replace_file(path, lambda draft: draft.write_bytes(b"data"))
    with open_regular(path) as file:
        assert file.read() == b"data"
    assert [os.fsencode(child.name) for child in tmp_path.iterdir()] == [b"a\x80\xff.bin"]
