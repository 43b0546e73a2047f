"""Pictures whose files, folders, tars or disks are gone."""

import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ecliptic.engine import Clip, Columns
from ecliptic.errors import InputError
from ecliptic.library import Library
from ecliptic.library.filling.places import may_be_away
from tests.library.photos import counts, rows_of, save_photo, touch


def pack(path: Path, names: list[str], folder: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in names:
            tar.add(folder / name, name)


def test_a_folder_that_is_gone_is_pruned_by_the_folder_above(
    library: Library, photos: Path
) -> None:
    library.add(photos)
    shutil.rmtree(photos / "sub")
    summary = library.add(str(photos / "sub"), prune=True)
    assert summary.away == [str(photos / "sub" / "c.png")]  # perhaps it was renamed
    assert counts(library.add([photos / "sub", photos], prune=True)) == {
        "unchanged": 2, "gone": 1, "removed": 1,
    }  # fmt: skip
    assert len(library) == 2


def test_a_file_that_is_gone_is_pruned_by_its_name(library: Library, photos: Path) -> None:
    library.add(photos)
    (photos / "a.png").unlink()
    summary = library.add(str(photos / "a.png"), prune=True)
    assert counts(summary) == {"gone": 1, "removed": 1}
    assert counts(library.add(str(photos / "a.png"))) == {"rejected": 1}  # nobody knows it now


def test_an_empty_folder_may_be_the_place_of_a_disk(library: Library, photos: Path) -> None:
    library.add(photos)
    shutil.rmtree(photos)
    photos.mkdir()
    summary = library.add(photos, prune=True)
    assert counts(summary) == {}
    assert sorted(summary.away) == sorted(rows_of(library))
    assert len(library) == 3


def test_copies_of_files_on_a_missing_disk_are_not_moved(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    library.add(photos)
    shutil.copytree(photos, tmp_path / "copy")
    shutil.rmtree(photos)
    photos.mkdir()
    assert counts(library.add(tmp_path / "copy")) == {"copied": 3}
    assert counts(library.add([photos, tmp_path / "copy"], prune=True)) == {"unchanged": 3}
    assert len(library) == 6


@pytest.mark.parametrize(
    ("path", "away"),
    [
        ("/media/somebody/disk/photos/a.png", True),
        ("/mnt/a.png", True),
        ("/nowhere/photos/a.png", False),
    ],
)
def test_places_of_disks(path: str, *, away: bool) -> None:
    assert may_be_away(path) is away


def test_members_that_left_a_tar_are_gone(library: Library, photos: Path, tmp_path: Path) -> None:
    tar = tmp_path / "t.tar"
    pack(tar, ["a.png", "b.png"], photos)
    library.add(tar)
    pack(tar, ["b.png", "sub/c.png"], photos)
    summary = library.add(tar)
    (row,) = library.rows('name = "c.png"')
    assert (row["folder"], row["path"]) == (f"{tar}/sub", None)
    assert counts(summary) == {"added": 1, "unchanged": 1, "gone": 1}
    assert summary.gone == [f"{tar}/a.png"]
    assert library.add(tar, prune=True).removed == 1
    tar.unlink()  # and its folder has other things
    assert counts(library.add(tar, prune=True)) == {"gone": 2, "removed": 2}


def test_members_of_a_tar_that_cannot_be_read_are_not_gone(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    tar = tmp_path / "t.tar"
    pack(tar, ["a.png", "b.png"], photos)
    library.add(tar)
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(Exception, match=r"t\.tar"):
        library.add(tar, prune=True)
    assert len(library) == 2


def test_rows_that_left_a_table_of_images_are_gone(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table, columns = tmp_path / "t.parquet", Columns(value="image")
    images = [(photos / name).read_bytes() for name in ("a.png", "b.png")]
    pq.write_table(pa.table({"image": images}), table)
    library.add(table, columns=columns)
    pq.write_table(pa.table({"image": images[:1]}), table)
    summary = library.add(table, columns=columns, prune=True)
    assert counts(summary) == {"unchanged": 1, "gone": 1, "removed": 1}
    assert summary.gone == [f"{table}, row 2"]


def test_a_source_that_cannot_be_read_does_not_stop_the_others(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    for name in ("empty", "void"):
        (tmp_path / name).mkdir()
    with (
        pytest.warns(UserWarning, match=r"no images in .*void"),
        pytest.raises(InputError, match=r"no images in .*empty"),
    ):
        library.add([tmp_path / "empty", tmp_path / "void", photos])
    assert len(library) == 3


def test_a_broken_file_is_found_as_it_was_and_told(library: Library, photos: Path) -> None:
    library.add(photos)
    whole = (photos / "a.png").read_bytes()
    before = (photos / "a.png").stat()
    (photos / "a.png").write_bytes(b"broken")
    touch(photos / "a.png")
    (reject,) = library.add(photos).rejected
    assert reject.reason.endswith("It is still found as it was before.")
    assert len(library) == 3
    (photos / "a.png").write_bytes(whole)
    touch(photos / "a.png", before.st_mtime - (photos / "a.png").stat().st_mtime)
    assert counts(library.add(photos)) == {"unchanged": 3}
    assert len(library.rejects) == 0


def test_all_of_them_are_pruned_when_asked(library: Library, photos: Path) -> None:
    library.add(photos)
    shutil.rmtree(photos)
    assert counts(library.add(str(photos), prune=True)) == {}
    assert library.add(str(photos), prune="all").removed == 3
    assert len(library) == 0


def test_a_tar_on_a_missing_disk_stays(library: Library, photos: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copytree(photos, inner := disk / "inner")
    pack(disk / "t.tar", ["a.png", "b.png"], photos)
    library.add(inner)
    pack(inner / "u.tar", ["sub/c.png"], photos)
    library.add([disk / "t.tar", inner / "u.tar"])
    assert len(library) == 6
    disk.rename(tmp_path / "away")
    for source in (disk / "t.tar", inner, disk):  # the disk is gone, then its empty place is there
        summary = library.add(str(source), prune=True)
        assert (summary.removed, len(summary.away) >= 2) == (0, True)
    disk.mkdir()
    for source in (disk / "t.tar", inner, disk):
        assert library.add(str(source), prune=True).removed == 0
    assert len(library) == 6


def test_a_tar_that_was_cut_loses_nothing(library: Library, photos: Path, tmp_path: Path) -> None:
    tar = tmp_path / "t.tar"
    pack(tar, ["a.png", "b.png"], photos)
    library.add(tar)
    with tarfile.open(tar) as opened:
        second = opened.getmembers()[1].offset
    tar.write_bytes(tar.read_bytes()[:second])  # ends between two members
    assert counts(library.add(tar, prune=True)) == {"unchanged": 1}
    assert len(library) == 2


def test_a_row_whose_cells_are_wrong_is_not_gone(tmp_path: Path, clip: Clip, photos: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table, columns = tmp_path / "t.parquet", Columns(value="image", facts=("year",))
    images = [(photos / name).read_bytes() for name in ("a.png", "b.png")]
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        for years, wanted in (
            (["1", "2"], {"added": 2}),
            (["1", "x"], {"unchanged": 1, "rejected": 1}),
        ):
            pq.write_table(pa.table({"image": images, "year": years}), table)
            assert counts(library.add(table, columns=columns, prune=True)) == wanted
        assert len(library) == 2


def test_a_copy_is_no_move_and_keeps_what_the_other_had(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    shutil.copy(photos / "a.png", photos / "copy.png")
    (table := tmp_path / "t.csv").write_text(f"file,year\n{photos / 'a.png'},1999\n")
    columns = Columns("file", facts=("year",))
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        library.add([table, photos], columns=columns)
        (photos / "a.png").unlink()
        summary = library.add(photos)
        assert summary.gone == [str(photos / "a.png")]
        assert counts(summary) == {"unchanged": 3, "gone": 1}
        assert rows_of(library)[str(photos / "a.png")]["year"] == 1999


def test_files_moved_out_of_a_folder_that_stays_take_their_cells_along(
    tmp_path: Path, clip: Clip, photos: Path
) -> None:
    (table := tmp_path / "t.csv").write_text(f"file,year\n{photos / 'sub' / 'c.png'},1999\n")
    columns = Columns("file", facts=("year",))
    with Library.create(tmp_path / "own.library", clip, {"year": "int"}) as library:
        library.add(table, columns=columns)
        (photos / "sub" / "c.png").rename(photos / "c.png")
        summary = library.add([photos / "sub", photos])
        assert summary.away == [str(photos / "sub" / "c.png")]
        assert rows_of(library)[str(photos / "c.png")]["year"] == 1999


def test_files_that_a_table_names_and_that_are_gone(library: Library, photos: Path) -> None:
    table = photos.parent / "t.csv"
    table.write_text(f"file\n{photos / 'a.png'}\n{photos / 'b.png'}\n{photos / 'none.png'}\n")
    assert counts(library.add(table, columns=Columns("file"))) == {"added": 2, "rejected": 1}
    (photos / "a.png").unlink()
    found = library.add(table, columns=Columns("file"), prune=True)
    assert found.gone == [str(photos / "a.png")]
    assert (found.removed, len(library)) == (1, 1)


def test_a_folder_with_the_name_of_a_file_is_not_the_file(library: Library, photos: Path) -> None:
    library.add(photos)
    (photos / "a.png").unlink()
    save_photo(photos / "a.png" / "inner.png", 5)
    assert counts(library.add(photos, prune=True)) == {
        "added": 1, "unchanged": 2, "gone": 1, "removed": 1,
    }  # fmt: skip


def test_two_slashes_name_the_same_folder(library: Library, photos: Path) -> None:
    assert counts(library.add([photos, f"/{photos}"])) == {"added": 3}
    assert len(library) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "'' names no file or folder; is a variable empty?"),
        (["a\0b"], "names no file or folder"),
        ([5], "5 is no path"),
        ([b"x.png"], "is no path"),
        (None, "None is no path"),
    ],
)
def test_what_is_no_path_is_told(library: Library, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        library.add(given)


def test_an_empty_folder_inside_of_the_named_one_is_only_empty(
    library: Library, photos: Path
) -> None:
    library.add(photos)
    (photos / "sub" / "c.png").unlink()
    summary = library.add(photos, prune=True)
    assert (summary.gone, summary.removed) == ([str(photos / "sub" / "c.png")], 1)
