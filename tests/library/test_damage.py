"""Damaged libraries are told and mended: nothing is lost that can be made again."""

import json
import shutil
from pathlib import Path

import pytest

from ecliptic.engine import Clip
from ecliptic.errors import CorruptFileError, EclipticError, StorageError
from ecliptic.index.lance.table import manifests
from ecliptic.library import Library, check_library, repair_library
from tests.index.test_full_disk import disk, fill  # noqa: F401 a fixture
from tests.library.photos import check_vectors, counts, rows_of, save_photo, stored_thumbnails

DERIVED = ["thumbnails", "rejects"]


@pytest.fixture
def filled(library: Library, photos: Path) -> Library:
    (photos / "broken.png").write_bytes(b"no image")
    library.add([str(photos / "a.png"), str(photos / "b.png")])
    library.add(photos)
    library.search("a cat", 3)  # writes codes
    return library


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def data_files(folder: Path) -> list[Path]:
    return sorted((folder / "table.lance" / "data").iterdir())


def places(library: Library) -> str:
    return " ".join(f"{one.where}: {one.what}" for one in check_library(library.folder, deep=True))


def check_sound(filled: Library, photos: Path, clip: Clip) -> None:
    """Assert that the library is whole again after one run."""
    with Library.open(filled.folder, clip) as opened:
        opened.add(photos)
        check_vectors(opened, sorted(p for p in photos.rglob("*.png") if p.name != "broken.png"))
        contents = {str(row["content"]) for row in rows_of(opened).values()}
        assert stored_thumbnails(opened, contents).keys() == contents
        assert [Path(one.id).name for one in opened.rejects] == ["broken.png"]


def test_a_sound_library_needs_no_repair(filled: Library, photos: Path, clip: Clip) -> None:
    assert filled.check(deep=True) == []
    assert filled.repair() == repair_library(filled.folder)
    assert filled.repair().actions == ()
    check_sound(filled, photos, clip)


@pytest.mark.parametrize("part", ["items", *DERIVED])
def test_a3_a_torn_manifest(filled: Library, photos: Path, clip: Clip, part: str) -> None:
    folder = filled.folder / (filled.about.items if part == "items" else part)
    manifests(folder)[0].write_bytes(b"")
    with pytest.raises(StorageError, match="library repair"):
        Library.open(filled.folder, clip)
    assert folder.name in places(filled)
    done = repair_library(filled.folder)
    assert (done.lost, done.left) == (1 if part == "items" else 0, ())
    assert any(folder.name in action for action in done.actions)
    check_sound(filled, photos, clip)


def test_a5_a_flipped_byte_of_vectors(filled: Library, photos: Path, clip: Clip) -> None:
    flip(data_files(filled.folder / filled.about.items)[0])
    assert "its bytes changed" in places(filled)
    done = repair_library(filled.folder)
    assert len(done.left) == 1
    assert done.left[0].where.startswith(f"{filled.about.items}/data/")
    done = repair_library(filled.folder, drop=True)
    assert done.left == ()
    assert done.lost > 0
    check_sound(filled, photos, clip)


@pytest.mark.parametrize("part", DERIVED)
@pytest.mark.parametrize("damage", ["flip", "table", "folder", "manifests"])
def test_damage_of_what_can_be_made_again(
    filled: Library, photos: Path, clip: Clip, part: str, damage: str
) -> None:
    folder = filled.folder / part
    if damage == "flip":
        flip(data_files(folder)[0])
    elif damage == "manifests":
        for path in manifests(folder):
            path.write_bytes(b"")
    else:
        shutil.rmtree(folder / "table.lance" if damage == "table" else folder)
    assert part in places(filled)
    done = repair_library(filled.folder)
    assert (done.lost, done.left) == (0, ())
    assert check_library(filled.folder, deep=True) == []
    if part == "thumbnails":
        assert any("made " in action for action in done.actions)
    check_sound(filled, photos, clip)


def test_thumbnails_whose_files_are_gone_are_told(filled: Library, photos: Path) -> None:
    shutil.rmtree(filled.folder / "thumbnails")
    (photos / "a.png").unlink()
    save_photo(photos / "b.png", 77)
    done = repair_library(filled.folder)
    assert "made 1 missing thumbnails" in done.actions
    assert any(action.startswith("2 thumbnails are missing") for action in done.actions)


def test_missing_codes_are_made_again(filled: Library, photos: Path, clip: Clip) -> None:
    codes = filled.folder / filled.about.items / "codes"
    before = filled.search("a cat", 3)
    shutil.rmtree(codes)
    with Library.open(filled.folder, clip) as opened:
        assert opened.search("a cat", 3).ids == before.ids
    assert list(codes.iterdir())
    check_sound(filled, photos, clip)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 1}', '{"settings": {"precision": 1}}', '{"format": "x"}', None],
)
def test_a_damaged_library_json_is_written_again(
    filled: Library, photos: Path, clip: Clip, text: str | None
) -> None:
    about = filled.folder / "library.json"
    before = json.loads(about.read_text())
    if text is None:
        about.unlink()
    else:
        about.write_text(text)
    with pytest.raises(EclipticError, match=r"library\.json"):
        Library.open(filled.folder, clip)
    assert "library repair` writes it again" in places(filled)
    done = repair_library(filled.folder)
    assert "wrote library.json again" in done.actions[0]
    assert json.loads(about.read_text()) == before
    check_sound(filled, photos, clip)


def test_a_newer_library_is_left_alone(filled: Library, clip: Clip) -> None:
    about = filled.folder / "library.json"
    newer = {**json.loads(about.read_text()), "format": 99, "more": 1}
    about.write_text(json.dumps(newer))
    for use in (lambda: Library.open(filled.folder, clip), lambda: repair_library(filled.folder)):
        with pytest.raises(StorageError, match="newer version"):
            use()
    assert json.loads(about.read_text()) == newer


def test_vectors_of_two_models_and_no_library_json(filled: Library) -> None:
    shutil.copytree(filled.folder / filled.about.items, filled.folder / "items-other")
    (filled.folder / "library.json").write_text("{")
    with pytest.raises(StorageError, match="vectors of 2 models"):
        repair_library(filled.folder)


def test_a_folder_that_is_no_library(tmp_path: Path, clip: Clip) -> None:
    for use in (check_library, repair_library, lambda path: Library.open(path, clip)):
        with pytest.raises(StorageError, match="is no library"):
            use(tmp_path)
    assert not list(tmp_path.iterdir())


def test_errors_of_library_json_are_not_those_of_a_checkpoint(filled: Library) -> None:
    (filled.folder / "library.json").write_text("{")
    with pytest.raises(CorruptFileError, match=r"library\.json is damaged.*library repair"):
        Library.open(filled.folder)


def test_a6_a_full_disk_loses_nothing(disk: Path, tmp_path: Path, clip: Clip) -> None:  # noqa: F811
    photos = tmp_path / "photos"
    for seed in range(40):
        save_photo(photos / f"{seed:02}.png", seed)
    errors = []
    with Library.create(disk / "x.library", clip) as library:
        library.add(photos / "00.png")
        for left in (0, 4096, 16384, 32768, 49152, 65536):
            fill(disk, left)
            number = len(library)
            try:
                library.add(sorted(photos.glob("*.png"))[: number + 6])
            except StorageError as error:
                errors.append(str(error))
            (disk / "filler").unlink()
            assert len(library) >= number
            assert library.check(deep=True) == []
            library.add(sorted(photos.glob("*.png"))[: number + 6])
            assert len(library) == number + 6
        assert len(errors) >= 2
        assert all("free" in error for error in errors)
        assert counts(library.add(photos)) == {"added": 3, "unchanged": 37}
        check_vectors(library, sorted(photos.glob("*.png")))
