"""Pictures whose files, folders, tars or disks are gone."""

import shutil
import tarfile
from pathlib import Path

import pytest

from ecliptic.engine import Columns
from ecliptic.errors import InputError
from ecliptic.library import Library
from ecliptic.library.filling.places import may_be_away
from tests.library.photos import counts, rows_of, touch


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
    tar.unlink()
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
