"""A10, A12, A20: a library in use for minutes loses nothing and leaks nothing; `make fuzz`."""

import os
import random
import threading
import time
from pathlib import Path
from statistics import median

import pytest

from ecliptic.engine import Clip
from ecliptic.library import Library
from tests.fuzz.rounds import MINUTES, SEED
from tests.library.photos import check_vectors
from tests.library.test_kills import PHOTOS, change_photos, check_rows, draw_photos, kill
from tests.library.workers import Nursery, nursery

pytestmark = pytest.mark.fuzz
LEAST_ROUNDS = 8
MOST_MEMORY = 40 << 20  # bytes that this process may grow by after its first half
MOST_FILES = 2500


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_library_in_use_loses_and_leaks_nothing(tmp_path: Path, model: Path, clip: Clip) -> None:
    folder, photos, draw = tmp_path / "x.library", tmp_path / "photos", random.Random(SEED)
    draw_photos(photos)
    end = time.monotonic() + MINUTES * 60
    used: list[dict[str, int]] = []
    with Library.create(folder, clip) as library, nursery(model, folder, photos) as workers:
        while time.monotonic() < end or len(used) < LEAST_ROUNDS:
            work_and_search(library, workers, draw, pruned := len(used) % 3 == 2)
            check_rows(library, clip)
            if pruned:
                library.compact()
            used.append(in_use(folder))
            change_photos(photos, len(used), draw)
        workers.start("prune")
        assert workers.read("ended")[1] == "0"
        check_vectors(library, sorted(photos.rglob("*.png")))
        assert len(library) == PHOTOS
    print(f"{len(used)} rounds, SEED={SEED}: {used[0]} at first, {used[-1]} at last")
    early, late = used[len(used) // 4 : len(used) // 2], used[len(used) * 3 // 4 :]
    for what, most in (("memory", MOST_MEMORY), ("handles", 4), ("threads", 2)):
        grown = median(one[what] for one in late) - median(one[what] for one in early)
        assert grown <= most, f"{what} grew by {grown} in {len(used)} rounds"
    assert max(one["files"] for one in used) <= MOST_FILES


def work_and_search(library: Library, workers: Nursery, draw: random.Random, pruned: bool) -> None:
    """Search while another process adds; it is killed, or ends by itself."""
    child = workers.start("prune" if pruned else "add")
    killer = threading.Timer(draw.uniform(0, 3), kill, [child])
    if draw.random() < 0.5:
        killer.start()
    reading = threading.Thread(target=workers.read, args=["ended"])
    reading.start()
    while reading.is_alive():
        found = library.search("a cat", 40, where="width >= 10")
        assert len(set(found.ids)) == len(found)
    killer.cancel()


def in_use(folder: Path) -> dict[str, int]:
    """What this process and the folder of the library hold now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "handles": _entries("/proc/self/fd"),
        "threads": _entries("/proc/self/task"),
        "files": sum(1 for path in folder.rglob("*") if path.is_file()),
    }


def _entries(folder: str) -> int:
    return sum(1 for _ in Path(folder).iterdir())
