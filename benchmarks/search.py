"""Search beside other engines: `python -m benchmarks.search [ROWS] [--fast]`.

Vectors like CLIP's (`vectors_like_clip.py`), 100,000 unless another number is given. For each
engine: recall at 10 of text and image queries against exact scores, milliseconds of one query (p50
and p99) and of its CPU time, seconds to build, megabytes on disk. Engines take turns of 20
queries. Ours also: with a filter that passes a tenth of the rows (a new one each time), opening,
and adding 1,000 rows. `--fast` leaves out engines that take minutes to build.
"""

import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_peers import PEERS, Search
from benchmarks.timing import machine
from benchmarks.vectors_like_clip import SIZE, images, make_world, queries
from ecliptic.index import Store, StoreSchema, open_store

ROWS, QUERIES, K = 100_000, 100, 10
_FEW = 10  # queries of an engine that needs seconds for each
_IN_A_ROW = 20  # queries of an engine before the next one has its turn
_BATCH = 8192  # rows of an insert
Array = NDArray[np.float32]


@dataclass
class Measured:
    """What one engine did."""

    build: float  # s
    disk: float = 0.0  # MB
    wall: list[float] = field(default_factory=list)  # s, of each query
    cpu: list[float] = field(default_factory=list)
    text: list[float] = field(default_factory=list)  # recall at 10 of each query
    image: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, float]:
        """Medians and means, as the table has them."""
        p99 = sorted(self.wall)[int(0.99 * len(self.wall))]
        return {
            "text_recall": round(statistics.mean(self.text), 4),
            "image_recall": round(statistics.mean(self.image), 4),
            "p50_ms": round(1e3 * statistics.median(self.wall), 2),
            "p99_ms": round(1e3 * p99, 2),
            "cpu_ms": round(1e3 * statistics.mean(self.cpu), 2),
            "build_s": round(self.build, 2),
            "disk_mb": round(self.disk, 1),
        }


def _folder_size(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def build_store(folder: Path, rows: Array) -> Store:
    """Our store with a column to filter by, and its codes."""
    store = open_store(folder, StoreSchema(SIZE, {"number": "int", "name": "string"}))
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        numbers = list(range(start, start + len(some)))
        columns = {
            "number": [n % 1000 for n in numbers],
            "name": [f"pictures/{n}" for n in numbers],
        }
        store.upsert([str(n) for n in numbers], some, columns)
    store.compact()
    store.search(rows[0])
    return store


def exact_best(rows: Array, asked: Array) -> list[set[int]]:
    """The numbers of the K best rows of each query."""
    scores = np.concatenate(
        [asked @ rows[i : i + 100_000].T for i in range(0, len(rows), 100_000)], 1
    )
    return [set(np.argpartition(-row, K)[:K].tolist()) for row in scores]


def compare(engines: dict[str, tuple[Search, Measured]], rows: Array) -> None:
    """Ask all engines in turn, and note times and recall."""
    texts, pictures = queries(make_world(), QUERIES)
    for kind, asked in (("text", texts), ("image", pictures)):
        truth = exact_best(rows, asked)
        for search, _ in engines.values():
            search(asked[0])
        for start in range(0, len(asked), _IN_A_ROW):
            for name, (search, measured) in engines.items():
                end = _FEW if name in PEERS and PEERS[name].crawls else len(asked)
                turn = range(start, min(start + _IN_A_ROW, end))
                if not turn:
                    continue
                search(asked[start])  # the caches hold what the engine before used
                for number in turn:
                    cpu, wall = time.process_time(), time.perf_counter()
                    found = search(asked[number])
                    measured.wall.append(time.perf_counter() - wall)
                    measured.cpu.append(time.process_time() - cpu)
                    getattr(measured, kind).append(len(truth[number] & set(found)) / K)


def measure_ours(store: Store, folder: Path, rows: Array) -> dict[str, float]:
    """Filters, several queries at once, opening and adding."""
    texts, _ = queries(make_world(), QUERIES, seed=3)
    filtered = []
    for number, query in enumerate(texts):
        start = time.perf_counter()
        store.search(query, K, f"number >= {number} and number < {number + 100}")
        filtered.append(time.perf_counter() - start)
    batch = _seconds(lambda: store.search(texts, K))
    opening = _seconds(lambda: open_store(folder).search(texts[0], K))
    ids = [f"new {n}" for n in range(1000)]
    adding = _seconds(lambda: store.upsert(ids, rows[:1000] + np.float32(0.01)))
    deleting = _seconds(lambda: store.delete(ids=ids))
    exact = _seconds(lambda: store.search(texts[0], K, exact=True))
    return {
        "filtered_p50_ms": round(1e3 * statistics.median(filtered), 2),
        "batch_queries_per_s": round(len(texts) / batch, 1),
        "open_and_search_s": round(opening, 3),
        "add_1000_s": round(adding, 3),
        "delete_1000_s": round(deleting, 3),
        "exact_s": round(exact, 3),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a table for people, and one JSON line."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    count, fast = (numbers[0] if numbers else ROWS), "--fast" in sys.argv
    folder = Path(tempfile.mkdtemp(prefix="ecliptic-search-"))
    try:
        rows = np.concatenate(list(images(make_world(), count)))
        start = time.perf_counter()
        store = build_store(folder / "ours", rows)
        built = Measured(time.perf_counter() - start, _folder_size(folder / "ours"))
        ours: Search = lambda query: [int(id_) for id_ in store.search(query, K).hits[0].ids]  # noqa: E731
        engines = {"ecliptic": (ours, built)}
        for name, peer in PEERS.items():
            if fast and peer.slow:
                continue
            start = time.perf_counter()
            search = peer.build(rows, folder / name.replace(" ", "-").replace("/", "-"))
            if search is not None:
                engines[name] = (search, Measured(time.perf_counter() - start))
        compare(engines, rows)
        found = {name: measured.to_json() for name, (_, measured) in engines.items()}
        own = measure_ours(store, folder / "ours", rows)
    finally:
        shutil.rmtree(folder)
    _print(count, found, own)


def _print(count: int, found: dict[str, dict[str, float]], own: dict[str, float]) -> None:
    print(f"{count:,} vectors of {SIZE} on {machine()}; recall at {K} of {QUERIES} queries each")
    print(f"{'':24}{'text':>7}{'image':>7}{'p50 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'build s':>9}")
    for name, one in found.items():
        cells = (one["p50_ms"], one["p99_ms"], one["cpu_ms"], one["build_s"])
        recalls = f"{one['text_recall']:7.3f}{one['image_recall']:7.3f}"
        print(f"{name:24}{recalls}" + "".join(f"{cell:9.1f}" for cell in cells))
    for name, value in own.items():
        print(f"  {name:22} {value}")
    line = {"bench": "search", "machine": machine(), "rows": count, "engines": found, "ours": own}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
