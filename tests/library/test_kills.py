"""A1, A20, E2: indexing that is killed at any moment goes on and loses nothing."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from ecliptic.engine import Clip
from ecliptic.library import Library
from tests.library.photos import (
    check_vectors,
    rows_of,
    save_photo,
    stored_thumbnails,
    touch,
    vectors_of,
)
from tests.library.workers import nursery

PHOTOS = 300


def draw_photos(folder: Path) -> None:
    for seed in range(PHOTOS):
        save_photo(folder / f"{seed % 7}" / f"{seed:03}.png", seed, 12, 10)


def change_photos(folder: Path, number: int, draw: random.Random) -> None:
    """Change, move and delete some pictures, and add some."""
    paths = draw.sample(sorted(folder.rglob("*.png")), 40)
    for place, path in enumerate(paths):
        if place < 15:
            save_photo(path, 1000 * (number + 1) + place, 12, 10)
            touch(path, number + 1.0)
        elif place < 30:
            path.rename(path.with_name(f"moved-{number}-{path.name}"))
        else:
            path.unlink()
            save_photo(folder / f"new-{number}-{place}.png", 2000 * (number + 1) + place, 12, 10)


def check_rows(library: Library, clip: Clip) -> None:
    """Assert that each row whose file is as it was has the vector of the file."""
    assert library.check(deep=True) == []
    vectors, rows = vectors_of(library), rows_of(library)
    assert len(rows) == len(library)
    paths = [id_ for id_ in rows if Path(id_).is_file()]
    same = [p for p in paths if sha256(Path(p).read_bytes()).hexdigest() == rows[p]["content"]]
    if same:
        expected = clip.encode_image(same).numpy()
        np.testing.assert_allclose([vectors[id_] for id_ in same], expected, atol=1e-5)
    small = stored_thumbnails(library, [str(row["content"]) for row in rows.values()])
    assert small.keys() == {row["content"] for row in rows.values()}


def survive(tmp_path: Path, model: Path, clip: Clip, rounds: int) -> None:
    folder, photos, draw = tmp_path / "x.library", tmp_path / "photos", random.Random(rounds)
    draw_photos(photos)
    before: set[str] = set()
    killed = 0
    with nursery(model, folder, photos) as workers:
        for number in range(rounds):
            child = workers.start("add")
            killer = threading.Timer(draw.uniform(0, 1.2), kill, [child])
            killer.start()
            killed += workers.read("ended")[1] == "9"
            killer.cancel()
            if (folder / "library.json").exists():
                with Library.open(folder, clip) as library:
                    check_rows(library, clip)
                    rows = set(rows_of(library))
                assert {id_ for id_ in before if Path(id_).exists()} <= rows, "rows are lost"
                before = rows
            change_photos(photos, number, draw)
        workers.start("prune")
        assert workers.read("ended")[1] == "0"
    assert killed >= rounds // 2
    with Library.open(folder, clip) as library:
        check_vectors(library, sorted(photos.rglob("*.png")))
        assert len(library) == PHOTOS


def await_true(look: Callable[[], bool]) -> None:
    """Wait until `look` is true, at most two minutes."""
    end = time.monotonic() + 120
    while not look():
        assert time.monotonic() < end
        time.sleep(0.01)


def kill(child: int) -> None:
    """Kill a process that may have ended."""
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        return


def test_a1_a20_e2_killed_runs_go_on_and_lose_nothing(
    tmp_path: Path, model: Path, clip: Clip
) -> None:
    survive(tmp_path, model, clip, rounds=5)


@pytest.mark.slow
def test_a1_a20_e2_fifty_killed_runs_lose_nothing(tmp_path: Path, model: Path, clip: Clip) -> None:
    survive(tmp_path, model, clip, rounds=50)


def test_ctrl_c_keeps_what_was_embedded(tmp_path: Path, model: Path, clip: Clip) -> None:
    folder, photos = tmp_path / "x.library", tmp_path / "photos"
    draw_photos(photos)
    with nursery(model, folder, photos) as workers:
        child = workers.start("add")
        await_true((folder / "library.json").exists)
        with Library.open(folder, clip) as library:
            await_true(lambda: len(library) >= 20)
            os.kill(child, signal.SIGINT)
            _, added, _, interrupted = workers.read("summary")
            assert workers.read("ended")[1] == "0"
            assert (interrupted, len(library)) == ("True", int(added))
            check_rows(library, clip)
            assert library.add(photos).unchanged == int(added)
            check_vectors(library, sorted(photos.rglob("*.png")))


def test_a8_two_processes_index_the_same_folder(tmp_path: Path, model: Path, clip: Clip) -> None:
    folder, photos = tmp_path / "x.library", tmp_path / "photos"
    draw_photos(photos)
    Library.create(folder, clip).close()
    with nursery(model, folder, photos) as workers:
        workers.start("two")
        workers.start("two")
        counted = [workers.read("summary") for _ in range(2)]
    assert all(int(words[1]) + int(words[2]) == PHOTOS for words in counted)
    with Library.open(folder, clip) as library:
        check_vectors(library, sorted(photos.rglob("*.png")))


def test_a10_a_reader_searches_while_another_process_adds_and_compacts(
    tmp_path: Path, model: Path, clip: Clip
) -> None:
    folder, photos = tmp_path / "x.library", tmp_path / "photos"
    draw_photos(photos)
    with Library.create(folder, clip) as library, nursery(model, folder, photos) as workers:
        child = workers.start("compact")
        sizes = []

        def look() -> bool:
            found = library.search("a cat", 400)
            sizes.append(len(found))
            assert len(set(found.ids)) == len(found)
            assert all(found.thumbnails())
            return len(found) == PHOTOS

        await_true(look)
        for _ in range(20):
            assert len(library.search("a cat", 400)) == PHOTOS
        os.kill(child, signal.SIGKILL)
        assert sizes == sorted(sizes)
        check_vectors(library, sorted(photos.rglob("*.png")))
