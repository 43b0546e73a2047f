"""A3, A4, A5: damaged files are named, and repaired as far as that is possible."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ecliptic.errors import StorageError
from ecliptic.index import Store, check_store, open_store, repair_store
from ecliptic.index.lance.checksums import HINT
from ecliptic.index.lance.table import LanceTable, data_file, deletion_file, manifests
from tests.index.rows import SCHEMA, content, put, random_vectors, small_store
from tests.storage.faults import damage_bytes, flip_bytes


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def first_data_file(folder: Path) -> Path:
    fragment = LanceTable(folder).newest().get_fragments()[0]
    return folder / "table.lance" / "data" / data_file(fragment)


@pytest.mark.parametrize("part", [0, 0.5])
def test_a3_a_torn_manifest_is_told_and_repaired(tmp_path: Path, part: float) -> None:
    store = small_store(tmp_path)
    before = content(store)
    put(store, 100, 4)
    newest = manifests(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[: int(newest.stat().st_size * part)])
    with pytest.raises(
        StorageError, match=r"`ecliptic library check` tells .* `ecliptic library repair` mends"
    ):
        open_store(tmp_path)
    (problem,) = check_store(tmp_path)
    assert "`repair` goes back to the version before it" in problem.what
    done = repair_store(tmp_path)
    assert done.lost == 4
    assert newest.name in done.actions[0]
    assert "with 15 rows: 4 rows that were added after it are lost" in done.actions[1]
    assert done.left == ()
    assert (tmp_path / "damaged" / newest.name).is_file()
    assert content(open_store(tmp_path)) == before
    assert check_store(tmp_path, deep=True) == []
    assert repair_store(tmp_path).actions == ()


def test_a3_several_torn_manifests_are_repaired(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    torn = manifests(tmp_path)[:2]
    for path in torn:
        path.write_bytes(b"")
    assert repair_store(tmp_path).lost == 10
    assert len(open_store(tmp_path)) == 5
    # a handle that knows a version of the same rows and number of files sees the new state
    assert len(store) == 5
    put(open_store(tmp_path), 50, 5)
    assert content(store) == content(open_store(tmp_path))


def test_a3_a_handle_does_not_take_a_new_version_for_an_old_one(tmp_path: Path) -> None:
    store = small_store(tmp_path, batches=1)
    store.delete(["row-1"])
    assert store.search(np.ones(8), 9).plan.candidates == 4  # it keeps what it found
    manifests(tmp_path)[0].write_bytes(b"")
    repair_store(tmp_path)
    other = open_store(tmp_path)
    other.delete(["row-2"])
    for exact in (False, True):
        (hits,) = store.search(np.ones(8), 9, exact=exact).hits
        assert set(hits.ids) == {"row-0", "row-1", "row-3", "row-4"}


def test_a3_without_a_version_nothing_is_moved(tmp_path: Path) -> None:
    small_store(tmp_path, batches=0)
    (only,) = manifests(tmp_path)
    only.write_bytes(b"")
    with pytest.raises(StorageError, match=r"no version that can be read: .* restore it"):
        repair_store(tmp_path)
    assert only.exists()


def test_a3_damage_to_a_manifest_that_can_be_read_is_found(tmp_path: Path) -> None:
    """Lance reads some of these manifests, and panics at others."""
    before = content(small_store(tmp_path))
    put(open_store(tmp_path), 100, 4)
    newest = manifests(tmp_path)[0]
    sound = newest.read_bytes()
    for what, data in flip_bytes(sound, seed=0, count=40):
        newest.write_bytes(data)
        (problem,) = check_store(tmp_path)
        assert "`repair` goes back" in problem.what, what
    assert repair_store(tmp_path).lost == 4
    assert content(open_store(tmp_path)) == before


def use(folder: Path) -> Store:
    store = open_store(folder)
    store.search(np.ones(8), 3, "size > 2", ["name"])
    store.search(np.ones(8), 3, exact=True)
    content(store)
    return store


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a4_a_truncated_data_file_is_told(tmp_path: Path, kept: float) -> None:
    small_store(tmp_path)
    path = first_data_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if kept == 0.5 else int(kept)])
    with pytest.raises(StorageError, match="`ecliptic library check` tells"):
        use(tmp_path)
    (problem,) = check_store(tmp_path)
    assert problem.where == f"data/{path.name}"
    assert f"bytes instead of {len(data)}" in problem.what


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped"])
def test_a4_a5_rows_of_a_damaged_file_are_removed_if_asked(tmp_path: Path, damage: str) -> None:
    store = small_store(tmp_path)
    before = content(store)
    path = first_data_file(tmp_path)
    if damage == "gone":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        flip(path)
    (problem,) = repair_store(tmp_path).left
    assert problem.where == f"data/{path.name}"
    assert len(store) == 15
    done = store.repair(drop=True)
    assert (done.lost, done.left) == (5, ())
    assert done.actions == ("removed 5 rows whose data was damaged",)
    assert content(store) == {id_: row for id_, row in before.items() if int(id_[4:]) >= 5}
    put(store, 0, 5)
    assert content(store) == before
    assert store.check(deep=True) == []


def test_a5_one_flipped_byte_is_found_only_by_a_deep_check(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    store.delete(["row-1"])
    fragment = LanceTable(tmp_path).newest().get_fragments()[0]
    for name in (f"data/{data_file(fragment)}", deletion_file(fragment)):
        path = tmp_path / "table.lance" / name
        sound = path.read_bytes()
        flip(path)
        assert store.check() == []
        (problem,) = store.check(deep=True)
        assert (problem.where, problem.what[:17]) == (name, "its bytes changed")
        path.write_bytes(sound)
    assert store.check(deep=True) == []


def test_a5_no_damage_raises_anything_but_our_error(tmp_path: Path) -> None:
    """Flipped, cut and repeated bytes in data and deletion files; Lance panics at some."""
    small_store(tmp_path).delete(["row-1"])
    fragment = LanceTable(tmp_path).newest().get_fragments()[0]
    for name in (f"data/{data_file(fragment)}", deletion_file(fragment)):
        path = tmp_path / "table.lance" / name
        sound = path.read_bytes()
        for what, data in [*flip_bytes(sound, 1, 15), *damage_bytes(sound, 2, 15)]:
            path.write_bytes(data)
            with suppress(StorageError):
                use(tmp_path)
            assert [p.where for p in check_store(tmp_path, deep=True)] == [name], what
        path.write_bytes(sound)


def test_a_damaged_journal_speaks_against_no_sound_file(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    journal = tmp_path / "checksums.jsonl"
    sound = journal.read_bytes()
    for what, data in [*flip_bytes(sound, 3, 60), *damage_bytes(sound, 4, 30)]:
        journal.write_bytes(data)
        assert check_store(tmp_path, deep=True) == [], what
    journal.unlink()
    put(store, 0, 5)  # the next writer notes the checksums of all files
    flip(first_data_file(tmp_path))
    assert len(check_store(tmp_path, deep=True)) == 1


def test_a_lost_or_damaged_description_is_written_again(tmp_path: Path) -> None:
    before = content(small_store(tmp_path))
    about = tmp_path / "store.json"
    for damaged in (None, b"", b"{", b"[]", b'{"format": 1}', b'{"format": "x"}', b"\xff"):
        about.unlink()
        if damaged is not None:
            about.write_bytes(damaged)
        (problem,) = check_store(tmp_path)
        assert problem.where == "store.json"
        with pytest.raises(
            StorageError, match=r"`ecliptic library repair` writes (it|this file) again"
        ):
            open_store(tmp_path)
        assert repair_store(tmp_path).actions == ("wrote store.json again",)
        assert open_store(tmp_path).schema == SCHEMA
    assert content(open_store(tmp_path, SCHEMA)) == before


def test_a_lost_description_is_not_replaced_by_that_of_another_store(tmp_path: Path) -> None:
    small_store(tmp_path)
    (tmp_path / "store.json").unlink()
    with pytest.raises(StorageError, match="`ecliptic library repair` writes that again"):
        open_store(tmp_path, SCHEMA)
    assert not (tmp_path / "store.json").exists()


def test_a_store_of_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    small_store(tmp_path)
    about = tmp_path / "store.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"format": 2}))
    for call in (open_store, repair_store):
        with pytest.raises(StorageError, match=r"has format 2, .* a newer version wrote it"):
            call(tmp_path)


def test_the_hint_of_the_newest_version_is_not_needed(tmp_path: Path) -> None:
    before = content(small_store(tmp_path))
    hint = tmp_path / "table.lance" / "_versions" / HINT
    sound = hint.read_bytes()
    for data in (b"", b"{", b"\xff" * 100, sound.replace(b"4", b"2"), sound.replace(b"4", b"9")):
        hint.write_bytes(data)
        store = open_store(tmp_path)
        assert content(store) == before
        assert store.check(deep=True) == []
    hint.unlink()
    put(store, 0, 5)
    assert content(open_store(tmp_path)) == before


@pytest.mark.parametrize("left", ["a folder", "a table"])
def test_a_store_whose_maker_was_killed_is_made(tmp_path: Path, left: str) -> None:
    if left == "a folder":
        (tmp_path / "table.lance" / "data").mkdir(parents=True)
    else:
        open_store(tmp_path, SCHEMA)
        (tmp_path / "store.json").unlink()
    store = open_store(tmp_path, SCHEMA)
    store.upsert(["a"], random_vectors(1, 0))
    assert len(store) == 1
