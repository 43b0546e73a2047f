"""Names and files that are made to break an indexer: each is stored rightly, or told."""

import os
import struct
import zlib
from pathlib import Path

import pytest

from ecliptic.inputs import Preprocess
from ecliptic.library import Library
from ecliptic.library.filling.pictures import NewPicture
from tests.engine.models import draw
from tests.library.photos import check_vectors, counts, rows_of, save_photo, vectors_of
from tests.waiting import special_files

NAMES = [
    "new\nline.png",
    "tab\t and 'quotes' \"too\".png",
    "\u202eright to left.png",
    "* glob [a].png",
    " spaces .png",
    "-k.png",
    "ü\u0308 zwei.png",
    "😀.png",
    "\\udcff.png",
    "x" * 251 + ".png",
]


def not_utf8(folder: Path) -> Path:
    """A path whose name is not UTF-8; skips the test where there is no such name."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    try:
        path.write_bytes((save_photo(folder / "plain.png", 50)).read_bytes() + b"!")
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    return path


def test_every_name_is_stored_and_found_again(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "names"
    paths = [save_photo(folder / name, seed) for seed, name in enumerate(NAMES)]
    assert counts(library.add(folder)) == {"added": len(NAMES)}
    assert counts(library.add(folder)) == {"unchanged": len(NAMES)}
    check_vectors(library, paths)
    found = library.search(None, len(NAMES), like=str(paths[0]))
    assert found.ids[0] == str(paths[0])
    assert sorted(filter(None, found.paths)) == sorted(paths)


def test_names_that_are_not_utf8(library: Library, tmp_path: Path) -> None:
    path = not_utf8(tmp_path / "names")
    assert counts(library.add(tmp_path / "names")) == {"added": 2}
    assert counts(library.add(tmp_path / "names")) == {"unchanged": 2}
    found = library.search(None, 1, like=str(path))
    assert found.paths == [path]
    assert found.ids == [str(tmp_path / "names" / "caf\\udce9.png")]
    path.unlink()
    assert counts(library.add(tmp_path / "names", prune=True))["removed"] == 1


def test_rejects_with_names_that_are_not_utf8(library: Library, tmp_path: Path) -> None:
    path = not_utf8(tmp_path / "names")
    path.write_bytes(b"broken")
    assert counts(library.add(tmp_path / "names")) == {"added": 1, "rejected": 1}
    assert counts(library.add(tmp_path / "names")) == {"unchanged": 1, "rejected_before": 1}


def test_points_in_a_path_name_the_same_file(library: Library, photos: Path) -> None:
    library.add(photos / "sub" / ".." / "a.png")
    assert counts(library.add(photos / "a.png")) == {"unchanged": 1}
    assert list(rows_of(library)) == [str(photos / "a.png")]


def test_links_in_circles_and_links_to_files(library: Library, photos: Path) -> None:
    (photos / "sub" / "up").symlink_to(photos)
    (photos / "self.png").symlink_to(photos / "self.png")
    (photos / "nothing.png").symlink_to(photos / "missing.png")
    (photos / "link.png").symlink_to(photos / "a.png")
    summary = library.add(photos)
    assert counts(summary) == {"added": 4, "rejected": 2}
    same = vectors_of(library)
    assert (same[str(photos / "link.png")] == same[str(photos / "a.png")]).all()


def test_pipes_and_devices_are_rejected_at_once(library: Library, photos: Path) -> None:
    special_files(photos, ".png")
    (photos / "empty.png").touch()
    (photos / "folder.png").mkdir()
    summary = library.add(photos)
    assert counts(summary) == {"added": 3, "rejected": 4}
    assert counts(library.add(photos))["unchanged"] == 3


def test_a_bomb_is_rejected_without_its_memory(library: Library, photos: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0"))
    (photos / "bomb.png").write_bytes(data + chunk(b"IEND", b""))
    summary = library.add(photos)
    assert counts(summary) == {"added": 3, "rejected": 1}
    assert "60000" in summary.rejected[0].reason.replace(",", "")


def test_a_file_that_may_not_be_read(library: Library, photos: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (photos / "a.png").chmod(0)
    summary = library.add(photos)
    assert counts(summary) == {"added": 2, "rejected": 1}
    assert "ermission" in summary.rejected[0].reason


def test_a20_a_file_that_is_replaced_while_it_is_read(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, path = NewPicture.read, photos / "a.png"

    def replace_first(picture: NewPicture, preprocess: Preprocess) -> NewPicture:
        if picture.path == str(path):
            draw(30, 44, 50).save(path)
        return read(picture, preprocess)

    with monkeypatch.context() as patch:
        patch.setattr(NewPicture, "read", replace_first)
        library.add(photos)
    library.add(photos)  # the time that was noted is that of the old file
    check_vectors(library, sorted(photos.rglob("*.png")))
    row = rows_of(library)[str(path)]
    assert (row["width"], row["mtime_ns"]) == (44, path.stat().st_mtime_ns)


def test_a_file_that_is_renamed_while_it_is_read(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, path = NewPicture.read, photos / "a.png"

    def rename_first(picture: NewPicture, preprocess: Preprocess) -> NewPicture:
        if picture.path == str(path):
            path.rename(photos / "z.png")
        return read(picture, preprocess)

    with monkeypatch.context() as patch:
        patch.setattr(NewPicture, "read", rename_first)
        summary = library.add([str(photos / name) for name in ("a.png", "b.png")])
    assert counts(summary) == {"added": 1, "rejected": 1}
    assert counts(library.add(photos)) == {"added": 2, "unchanged": 1}
    check_vectors(library, sorted(photos.rglob("*.png")))


@pytest.mark.parametrize("seconds", [-5_000_000_000, -1, 4_000_000_000, 300_000_000_000])
def test_a19_times_of_files_from_wrong_clocks(library: Library, photos: Path, seconds: int) -> None:
    path = photos / "a.png"
    try:
        os.utime(path, (seconds, seconds))
    except OverflowError:
        pytest.skip("this file system has no such time")
    assert counts(library.add(photos)) == {"added": 3}
    assert counts(library.add(photos)) == {"unchanged": 3}
    os.utime(path, (0, 0))
    save_photo(path, 40)
    os.utime(path, (0, 0))  # older than before
    assert counts(library.add(photos)) == {"changed": 1, "unchanged": 2}
    assert rows_of(library)[str(path)]["modified"].year == 1970
