"""The tar reader finds what `tarfile` finds, and refuses or survives everything hostile."""

import io
import tarfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ecliptic.errors import StorageError
from ecliptic.storage import Member, TarFile, TruncatedTarWarning
from tests.train.data.pictures import write_tar

FAST = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PART = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=90
).filter(lambda part: part not in (".", ".."))
NAME = st.lists(PART, min_size=1, max_size=4).map("/".join)
MEMBERS = st.lists(st.tuples(NAME, st.binary(max_size=1300)), max_size=6)


def listed(path: Path) -> list[Member]:
    tar = TarFile(path)
    try:
        return list(tar.members())
    finally:
        tar.close()


def contents(path: Path) -> list[tuple[str, bytes]]:
    tar = TarFile(path)
    found = [(m.name, tar.read(m.offset, m.size)) for m in tar.members()]
    tar.close()
    return found


def one(path: Path, **about: object) -> Path:
    """A tar with one member whose header has these attributes."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        for name, value in about.items():
            setattr(info, name, value)
        tar.addfile(info)
    return path


def survive(path: Path) -> None:
    """Read a tar that may be damaged: an error that names it, or members inside the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTarWarning)
        try:
            found, problem = listed(path), path.name
        except StorageError as error:
            found, problem = [], str(error)
    size = path.stat().st_size
    assert path.name in problem
    assert all(m.offset >= 0 and m.offset + m.size <= size for m in found)


@FAST
@given(MEMBERS, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_every_file_is_found_as_tarfile_finds_it(
    tmp_path: Path, members: list[tuple[str, bytes]], kind: int
) -> None:
    path = write_tar(tmp_path / "x.tar", members, kind)
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert [(m.name, m.offset, m.size) for m in listed(path)] == expected
    assert [data for _, data in contents(path)] == [data for _, data in members]


@FAST
@given(MEMBERS, st.data())
def test_damage_ends_in_a_named_error_or_in_members_inside_the_file(
    tmp_path: Path, members: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    path = write_tar(tmp_path / "x.tar", members)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(whole), 8192) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    survive(path)


@FAST
@given(st.binary(max_size=2000))
def test_any_bytes_at_all_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    survive(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("/etc/passwd", tarfile.GNU_FORMAT), ("../a.png", tarfile.PAX_FORMAT),
     ("a/../../b.png", tarfile.GNU_FORMAT), ("/" + "x" * 300, tarfile.PAX_FORMAT)],
)  # fmt: skip
def test_c8_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str, kind: int) -> None:
    path = write_tar(tmp_path / "x.tar", [(name, b"x")], kind)
    with pytest.raises(StorageError, match="a name that leaves the folder"):
        listed(path)


@pytest.mark.parametrize(
    ("kind", "what"),
    [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.CHRTYPE, "a device"),
     (tarfile.BLKTYPE, "a device"), (tarfile.FIFOTYPE, "a pipe"), (b"S", "a sparse file"),
     (b"Q", "of the unknown kind b'Q'")],
)  # fmt: skip
def test_c8_what_is_no_plain_file_is_refused(tmp_path: Path, kind: bytes, what: str) -> None:
    path = one(tmp_path / "x.tar", type=kind, linkname="/etc/passwd")
    with pytest.raises(StorageError, match=rf"x\.tar holds 'a\.png', which is {what}"):
        listed(path)


def test_folders_are_no_files_and_sparse_files_in_pax_are_refused(tmp_path: Path) -> None:
    assert listed(one(tmp_path / "x.tar", type=tarfile.DIRTYPE)) == []
    with tarfile.open(tmp_path / "y.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.realsize": "999999999999"}
        tar.addfile(info)
    with pytest.raises(StorageError, match="sparse file"):
        listed(tmp_path / "y.tar")


@pytest.mark.parametrize(
    ("magic", "kind"),
    [
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"(\xb5/\xfd", "zstd"),
    ],
)
def test_compressed_tars_are_refused_with_the_way_out(
    tmp_path: Path, magic: bytes, kind: str
) -> None:
    (tmp_path / "x.tar").write_bytes(magic + bytes(600))
    with pytest.raises(StorageError, match=f"compressed with {kind}.*unpack it to a plain"):
        listed(tmp_path / "x.tar")


def test_a_tar_that_is_cut_short_gives_what_is_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.png", bytes(700)), ("b.png", bytes(700))])
    whole = path.read_bytes()
    second = 512 + 1024
    for size, count in ((second + 512 + 699, 1), (second + 100, 1), (512 + 699, 0), (100, 0)):
        path.write_bytes(whole[:size])
        with pytest.warns(TruncatedTarWarning, match=r"x\.tar is cut short"):
            assert len(listed(path)) == count
    path.write_bytes(whole[: second + 512 + 700])  # the padding is no loss
    assert len(listed(path)) == 2
    path.write_bytes(b"")
    assert listed(path) == []


def sized(size: bytes) -> bytes:
    """A header of a file whose size is written in this way."""
    header = bytearray(tarfile.TarInfo("a.png").tobuf(tarfile.GNU_FORMAT))
    header[124 : 124 + len(size)] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_sizes_of_large_files_are_read_and_impossible_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(sized(b"\x80" + (5).to_bytes(11, "big")) + b"hello".ljust(512, b"\0"))
    assert contents(path) == [("a.png", b"hello")]
    path.write_bytes(sized(b"\x80" + b"\xff" * 11) + bytes(1024))  # a bomb in base 256
    with pytest.warns(TruncatedTarWarning):
        assert listed(path) == []
    folder = bytearray(sized(b"\x80" + b"\xff" * 11))
    folder[156:157], folder[148:156] = b"5", b" " * 8
    folder[148:156] = b"%06o\0 " % sum(folder)
    path.write_bytes(folder + bytes(1024))  # a folder of that size ended in an OverflowError
    with pytest.warns(TruncatedTarWarning):
        assert listed(path) == []
    for bad in (b"\xff" * 12, b"0000000000-1", b"-1".ljust(12, b"\0"), b"99999999999\0"):
        path.write_bytes(sized(bad) + bytes(1024))
        with pytest.raises(StorageError, match="a size that is no number"):
            listed(path)


def test_long_records_and_wild_ones_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a" * 70_000, b"")], tarfile.GNU_FORMAT)
    with pytest.raises(StorageError, match="bytes of names, more than 65536"):
        listed(path)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"size": "-5"}
        tar.addfile(info, io.BytesIO())
    with pytest.raises(StorageError, match="whose size is '-5'"):
        listed(path)


def test_a_pipe_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.tar")
    for name in ("pipe.tar", "", "none.tar"):
        with pytest.raises(StorageError):
            listed(tmp_path / name)
