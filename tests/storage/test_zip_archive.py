"""Zip files with false records, false names or huge contents are refused with a reason."""

import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from ecliptic.errors import (
    CheckpointError,
    CorruptFileError,
    UnsafeFileError,
    UnsupportedLayoutError,
)
from ecliptic.storage import budget
from ecliptic.storage.pickled import zip_archive
from ecliptic.storage.pickled.torch_files import read_torch

from .archives import archive, small


def write_zip(path: Path, names: list[str], content: bytes = b"N.") -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names
        for name in names:
            file.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["x/data.pkl", "x/data.pkl"], "two entries"),
        (["x/data.pkl", "../evil"], "points outside the archive"),
        (["x/data.pkl", "/etc/evil"], "points outside the archive"),
        (["x/data.pkl", "x/../../evil"], "points outside the archive"),
        (["x/data.pkl", "C:/evil"], "points outside the archive"),
        (["x/data.pkl", "x\\evil"], "points outside the archive"),
    ],
)
def test_c4_zip_names_that_trick_are_refused(tmp_path: Path, names: list[str], reason: str) -> None:
    path = write_zip(tmp_path / "x.pt", names)
    with pytest.raises(UnsafeFileError, match=reason):
        read_torch(path)


def test_other_zips_are_refused_kindly(tmp_path: Path) -> None:
    for names in (["word/document.xml"], ["a/data.pkl", "b/data.pkl"], ["a/b/data.pkl"]):
        with pytest.raises(UnsupportedLayoutError, match=r"without the data\.pkl"):
            read_torch(write_zip(tmp_path / "x.pt", names))


def test_c4_zip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("x/data.pkl", b"N" * (budget.MAX_PICKLE + 1))
    with pytest.raises(UnsafeFileError, match="more than the 33554432 allowed"):
        read_torch(tmp_path / "x.pt")
    monkeypatch.setattr(zip_archive, "MAX_ENTRIES", 100)
    with pytest.raises(UnsafeFileError, match="at most 100 entries"):
        read_torch(write_zip(tmp_path / "y.pt", [f"x/{i}" for i in range(101)]))


def test_c4_a_compressed_pickle_is_refused_whatever_size_it_states(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"N" * 100_000 + b".")
    with pytest.raises(CorruptFileError, match="is compressed"):
        read_torch(tmp_path / "x.pt")
    data = bytearray((tmp_path / "x.pt").read_bytes())
    central = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, 50)
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(CorruptFileError, match="is compressed"):
        read_torch(tmp_path / "x.pt")


def patch(path: Path, offset: int, form: str, value: int, entry: int = 0) -> Path:
    """A zip of three entries with one field of a central record overwritten."""
    write_zip(path, ["x/data.pkl", "x/data/0", "x/data/1"], b"N." * 8)
    data = bytearray(path.read_bytes())
    place = -1
    for _ in range(entry + 1):
        place = data.index(b"PK\x01\x02", place + 1)
    struct.pack_into(form, data, place + offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "form", "value", "entry", "reason"),
    [
        (8, "<H", 1, 0, "encrypted"),
        (10, "<H", 12, 0, "method 12"),
        (20, "<I", 8, 0, "two sizes"),
        (24, "<I", 0xFFFFFFFF, 0, "zip64 size"),
        (42, "<I", 7, 0, "no local header"),
        (42, "<I", 0, 1, "another name in its local header"),
        (28, "<H", 60_000, 2, "runs past"),
        (0, "<I", 0, 1, "damaged"),
    ],
)
def test_c4_zip_records_that_contradict_the_file_are_refused(
    tmp_path: Path, offset: int, form: str, value: int, entry: int, reason: str
) -> None:
    path = patch(tmp_path / "x.pt", offset, form, value, entry)
    with pytest.raises((CorruptFileError, UnsafeFileError), match=reason):
        read_torch(path)


def test_c4_overlapping_zip_entries_are_refused(tmp_path: Path) -> None:
    path = patch(tmp_path / "x.pt", 20, "<I", 100)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 100)
    path.write_bytes(data)
    with pytest.raises(UnsafeFileError, match="overlap"):
        read_torch(path)


def test_c4_bytes_around_a_zip_are_refused(tmp_path: Path) -> None:
    whole = small()
    (tmp_path / "x.pt").write_bytes(whole + b"tail")
    with pytest.raises(CheckpointError):
        read_torch(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"PK" + whole)
    with pytest.raises(CheckpointError):
        read_torch(tmp_path / "x.pt")


def test_big_endian_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayoutError, match="big-endian"):
        read_torch(archive(tmp_path / "x.pt", b"N.", byteorder=b"big"))
