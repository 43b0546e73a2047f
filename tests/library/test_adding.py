"""Adding brings a library up to date: each file once, and only what is new is embedded."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ecliptic.engine import Clip, Item
from ecliptic.errors import ConfigError, StorageError
from ecliptic.library import Library
from ecliptic.library.filling.pictures import NewPicture
from tests.library.photos import (
    check_vectors,
    counts,
    rows_of,
    save_photo,
    stored_thumbnails,
    touch,
    vectors_of,
)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the pictures that are decoded for the model."""
    ids: list[str] = []
    prepare = NewPicture.prepare

    def note(picture: NewPicture, *given: Any) -> Any:
        ids.append(picture.id)
        return prepare(picture, *given)

    monkeypatch.setattr(NewPicture, "prepare", note)
    return ids


def test_a_second_run_embeds_nothing(library: Library, photos: Path, embedded: list[str]) -> None:
    assert counts(library.add(photos)) == {"added": 3}
    check_vectors(library, sorted(photos.rglob("*.png")))
    assert len(embedded) == 3
    assert counts(library.add(photos)) == {"unchanged": 3}
    with Library.open(library.folder, library.clip) as again:
        assert counts(again.add(photos)) == {"unchanged": 3}
    assert len(embedded) == 3


def test_a20_new_changed_and_deleted_files(library: Library, photos: Path) -> None:
    library.add(photos)
    save_photo(photos / "new.png", 7)
    save_photo(photos / "a.png", 8)
    touch(photos / "a.png")
    (photos / "b.png").unlink()
    summary = library.add(photos)
    assert counts(summary) == {"added": 1, "changed": 1, "unchanged": 1, "gone": 1}
    assert summary.gone == [str(photos / "b.png")]
    assert len(library) == 4  # it is only told
    assert counts(library.add(photos, prune=True)) == {"unchanged": 3, "gone": 1, "removed": 1}
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_a_touched_file_is_not_embedded_again(
    library: Library, photos: Path, embedded: list[str]
) -> None:
    library.add(photos)
    before = rows_of(library)[str(photos / "a.png")]
    touch(photos / "a.png")
    assert counts(library.add(photos)) == {"unchanged": 3}
    assert len(embedded) == 3
    after = rows_of(library)[str(photos / "a.png")]
    assert after["mtime_ns"] == (photos / "a.png").stat().st_mtime_ns
    assert after["modified"] > before["modified"]
    assert after["added"] == before["added"]


def test_moved_and_copied_files_keep_their_vectors(
    library: Library, photos: Path, embedded: list[str]
) -> None:
    library.add(photos)
    added = rows_of(library)[str(photos / "a.png")]["added"]
    (photos / "a.png").rename(photos / "sub" / "moved.png")
    shutil.copy(photos / "b.png", photos / "copy.png")
    assert counts(library.add(photos)) == {"moved": 1, "copied": 1, "unchanged": 2}
    assert len(embedded) == 3
    check_vectors(library, sorted(photos.rglob("*.png")))
    row = rows_of(library)[str(photos / "sub" / "moved.png")]
    assert (row["name"], row["folder"]) == ("moved.png", str(photos / "sub"))
    assert row["added"] == added


def test_a_moved_folder_is_not_embedded_again(
    library: Library, photos: Path, embedded: list[str]
) -> None:
    library.add(photos)
    moved = photos.rename(photos.with_name("pictures"))
    assert counts(library.add(moved)) == {"moved": 3}
    assert len(embedded) == 3
    check_vectors(library, sorted(moved.rglob("*.png")))


def test_two_files_that_change_names(library: Library, photos: Path, embedded: list[str]) -> None:
    library.add(photos)
    (photos / "a.png").rename(photos / "x.png")
    (photos / "b.png").rename(photos / "a.png")
    (photos / "x.png").rename(photos / "b.png")
    touch(photos / "a.png")
    touch(photos / "b.png", 20)
    assert counts(library.add(photos)) == {"changed": 2, "unchanged": 1}
    assert len(embedded) == 3
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_a_moved_file_whose_name_is_taken(
    library: Library, photos: Path, embedded: list[str]
) -> None:
    library.add(photos)
    (photos / "a.png").rename(photos / "z.png")
    save_photo(photos / "a.png", 9)
    touch(photos / "a.png")
    library.add(photos)
    assert sorted(embedded[3:]) == [str(photos / "a.png")]
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_files_of_equal_content_in_one_run(library: Library, photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "a2.png")
    summary = library.add(photos)
    assert summary.added + summary.copied == 4
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_a_file_that_is_named_twice_counts_once(library: Library, photos: Path) -> None:
    given = [photos, photos / "a.png", str(photos / "sub" / ".." / "a.png"), photos]
    assert counts(library.add(given)) == {"added": 3}
    (photos / "a.png").unlink()
    assert library.add([photos, photos]).gone == [str(photos / "a.png")]


def test_rejects_are_tried_again_when_they_change(library: Library, photos: Path) -> None:
    broken = photos / "broken.png"
    broken.write_bytes(b"no image")
    summary = library.add(photos)
    assert counts(summary) == {"added": 3, "rejected": 1}
    assert summary.rejected[0].id == str(broken)
    assert not summary.rejected[0].reason.startswith(str(broken))
    assert counts(library.add(photos)) == {"unchanged": 3, "rejected_before": 1}
    assert counts(library.add(photos, retry=True)) == {"unchanged": 3, "rejected": 1}
    assert [one.id for one in library.rejects] == [str(broken)]
    save_photo(broken, 5)
    assert counts(library.add(photos)) == {"unchanged": 3, "added": 1}
    assert list(library.rejects) == []


def test_rejects_of_deleted_files_are_forgotten(library: Library, photos: Path) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    library.add([photos / "broken.png", photos / "missing.png"])
    assert len(library.rejects) == 2
    (photos / "broken.png").unlink()
    library.add(photos)
    assert len(library.rejects) == 0


def test_a_picture_that_became_unusable_keeps_its_row(library: Library, photos: Path) -> None:
    library.add(photos)
    good = (photos / "a.png").read_bytes()
    (photos / "a.png").write_bytes(good[:50])
    assert counts(library.add(photos)) == {"unchanged": 2, "rejected": 1}
    assert len(library) == 3
    (photos / "a.png").write_bytes(good)
    touch(photos / "a.png")
    assert counts(library.add(photos)) == {"unchanged": 3}
    assert len(library.rejects) == 0


def test_a_folder_that_vanished_removes_nothing(library: Library, photos: Path) -> None:
    library.add(photos)
    hidden = photos.rename(photos.with_name("unmounted"))
    for _ in range(2):
        summary = library.add(photos, prune=True)
        assert counts(summary) == {}
        assert len(summary.away) == 3
        photos.mkdir(exist_ok=True)  # the empty place of a disk that is not mounted
    assert len(library) == 3
    photos.rmdir()
    assert counts(library.add(hidden)) == {"moved": 3}


def test_files_that_may_not_be_looked_at_are_not_gone(
    library: Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(photos)
    (photos / "a.png").unlink()

    look = os.lstat

    def refuse(path: str | Path) -> os.stat_result:
        if str(path).endswith("a.png"):
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    with monkeypatch.context() as patch:
        patch.setattr("ecliptic.library.filling.places.os.lstat", refuse)
        assert counts(library.add(photos, prune=True)) == {"unchanged": 2}
    assert library.add(photos).gone == [str(photos / "a.png")]


def test_what_came_before_a_source_with_an_error_is_stored(library: Library, photos: Path) -> None:
    with pytest.raises(StorageError, match="no file"):
        library.add([photos, "missing.csv"])
    assert len(library) == 3
    check_vectors(library, sorted(photos.rglob("*.png")))


def test_pictures_are_taken_from_a_stream_as_it_goes(library: Library, photos: Path) -> None:
    data = (photos / "a.png").read_bytes()

    def items() -> Iterator[Item]:
        for number in range(5):
            yield Item(f"row {number}", data + bytes([number]))

    progress: list[int] = []
    assert library.add(items(), advance=progress.append, batch_size=2).added == 5
    assert sum(progress) == 5
    rows = rows_of(library)
    assert rows["row 3"]["path"] is None
    assert rows["row 3"]["name"] == "row 3"


def test_a_whole_batch_is_decoded_while_the_tower_computes(
    library: Library, photos: Path, embedded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seen, image = (photos / "a.png").read_bytes(), list[int](), library.clip.runtime.image
    monkeypatch.setattr("ecliptic.engine.images.available_cores", lambda: 1)

    def wait(pixels: Tensor) -> Tensor:
        end = time.monotonic() + 10
        while not seen and len(embedded) < 11 and time.monotonic() < end:
            time.sleep(0.01)
        seen.append(len(embedded))
        return image(pixels)

    monkeypatch.setattr(library.clip.runtime, "image", wait)
    items = (Item(f"row {number}", data + bytes([number])) for number in range(16))
    assert library.add(items, batch_size=4).added == 16
    assert seen[0] == 11  # the batch, the next one, and three of the one thread's four


def test_rows_that_are_no_files(library: Library, photos: Path, embedded: list[str]) -> None:
    first, second = ((photos / name).read_bytes() for name in ("a.png", "b.png"))
    library.add([Item("one", first), Item("two", second)])
    assert counts(library.add([Item("one", first), Item("two", second)])) == {"unchanged": 2}
    assert len(embedded) == 2
    assert counts(library.add([Item("one", second)])) == {"changed": 1}
    same = vectors_of(library)
    assert (same["one"] == same["two"]).all()
    summary = library.add([Item("new", first), Item("new", second), Item("", first)])
    assert counts(summary) == {"added": 1, "rejected": 2}
    reasons = [one.reason for one in summary.rejected]
    assert any("its id came before" in reason for reason in reasons)
    assert any("not empty" in reason for reason in reasons)


def test_a_row_that_cannot_be_stored_is_rejected_and_not_counted(
    library: Library, photos: Path
) -> None:
    data = (photos / "a.png").read_bytes()
    names = ["x" * 9000, "with\0nul", "good"]
    summary = library.add([Item(name, data + bytes([i])) for i, name in enumerate(names)])
    assert counts(summary) == {"added": 1, "rejected": 2}
    assert len(library) == 1


def test_memory_of_the_model_is_not_needed_to_remove(
    clip: Clip, library: Library, photos: Path
) -> None:
    library.add(photos)
    with Library.open(library.folder) as opened:
        assert opened.remove([str(photos / "a.png"), "unknown"]) == 1
        assert len(opened) == 2


def test_compaction_removes_thumbnails_of_pictures_that_are_gone(
    library: Library, photos: Path
) -> None:
    library.add(photos)
    gone = library.search(k=1, like=str(sorted(photos.rglob("*.png"))[0])).rows[0]
    library.remove([str(gone["id"])])
    library.compact()
    assert stored_thumbnails(library, [str(gone["content"])])  # another process may be adding
    library.compact(now=True)
    assert not stored_thumbnails(library, [str(gone["content"])])
    assert library.check(deep=True) == []
    assert all(library.search("a cat").thumbnails())


def test_e2_a_move_that_was_killed_half_way_is_finished(library: Library, photos: Path) -> None:
    library.add(photos)
    before = sorted(photos.rglob("*.png"))[0]
    (row,) = [one for one in rows_of(library).values() if one["path"] == str(before)]
    before.rename(photos / "moved.png")
    library.add(photos)
    put_back = {name: [row[name]] for name in library.store.schema.columns}
    library.store.upsert(
        [str(before)], vectors_of(library)[str(photos / "moved.png")][None], put_back
    )
    assert counts(library.add(photos)) == {"unchanged": 3, "moved": 1}
    assert len(library) == 3


@pytest.mark.parametrize("name", ["content", "path", "size"])
def test_columns_that_a_library_fills_are_refused(tmp_path: Path, clip: Clip, name: str) -> None:
    with pytest.raises(ConfigError, match=f"every library has a column '{name}'"):
        Library.create(tmp_path / "own.library", clip, {name: "string"})
    assert not (tmp_path / "own.library").exists()
