"""Groups of pictures that resemble each other, against plain arithmetic; which one is kept."""

import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, FilterError, InputError
from ecliptic.index import Store, StoreSchema, open_store
from ecliptic.library import Library
from ecliptic.library.finding import duplicates
from ecliptic.library.finding.duplicates import find_groups
from ecliptic.library.layout import COLUMNS
from tests.library.photos import save_photo
from tests.waiting import at_most


def put(store: Store, vectors: Any, **columns: list[Any]) -> None:
    ids = [f"p{row:04}" for row in range(len(vectors))]
    store.upsert(ids, vectors, columns)


@pytest.fixture(params=["lance", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    place = tmp_path / "store" if request.param == "lance" else "memory:"
    return open_store(place, StoreSchema(8, COLUMNS, {}))


def clusters(count: int, seed: int) -> Any:
    """Vectors near some centres, so that many pairs are near."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count // 6, 8))
    vectors = centres[generator.integers(len(centres), size=count)]
    vectors = vectors + 0.25 * generator.normal(size=vectors.shape)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def slow_groups(vectors: Any, sizes: list[int], threshold: float) -> list[tuple[int, set[int]]]:
    scores = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    left = sorted(range(len(vectors)), key=lambda row: (-sizes[row], row))
    groups, taken = [], set[int]()
    for row in left:
        near = {
            other
            for other in left
            if other != row and other not in taken and scores[row, other] >= threshold
        }
        if row not in taken and near:
            groups.append((row, near))
            taken |= {row} | near
    return sorted(groups, key=lambda group: (-len(group[1]), group[0]))


@pytest.mark.parametrize("threshold", [0.9, 0.97])
def test_groups_are_those_of_plain_arithmetic(store: Store, threshold: float) -> None:
    vectors = clusters(90, 1)
    sizes = np.random.default_rng(2).permutation(90).tolist()
    put(store, vectors, size=sizes)
    found = find_groups(store, threshold, None)
    expected = slow_groups(vectors, sizes, threshold)
    assert len(expected) > 3
    assert [(group.keep["id"], {row["id"] for row in group.others}) for group in found] == [
        (f"p{keep:04}", {f"p{other:04}" for other in others}) for keep, others in expected
    ]
    for group in found:
        keep = vectors[int(str(group.keep["id"])[1:])]
        scores = [float(vectors[int(str(row["id"])[1:])] @ keep) for row in group.others]
        np.testing.assert_allclose(group.scores, scores, atol=1e-6)
        assert list(group.scores) == sorted(group.scores, reverse=True)


def test_only_pictures_that_pass_the_filter_are_grouped(store: Store) -> None:
    vectors = clusters(60, 4)
    sizes = list(range(60))
    put(store, vectors, size=sizes)
    found = find_groups(store, 0.9, "size < 30")
    expected = slow_groups(vectors[:30], sizes[:30], 0.9)
    assert [group.keep["id"] for group in found] == [f"p{keep:04}" for keep, _ in expected]
    with pytest.raises(FilterError):
        find_groups(store, 0.9, "sise < 30")


def test_the_best_picture_is_kept(store: Store) -> None:
    same = np.tile(clusters(6, 1)[:1], (5, 1))
    days = [datetime(2024, 1, day) for day in (5, 4, 3, 2, 1)]
    put(
        store, same, content=list("abcde"), width=[10, 20, 20, 20, 20], height=[10] * 5,
        size=[99, 5, 7, 7, 6], modified=days,
    )  # fmt: skip
    (group,) = find_groups(store, 0.99, None)
    assert group.keep["id"] == "p0003"  # most pixels, most bytes, older than p0002
    assert group.same == 0
    assert {row["id"] for row in group.others} == {"p0000", "p0001", "p0002", "p0004"}


def test_files_of_the_same_bytes(store: Store) -> None:
    vectors = np.eye(8, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    put(store, vectors, content=["x", "x", "y", "z", "z", "w"], size=[5, 5, 9, 1, 1, 1])
    first, second = find_groups(store, 0.9, None)
    assert (first.keep["id"], [row["id"] for row in first.others]) == ("p0002", ["p0000", "p0001"])
    assert (first.same, second.same) == (0, 1)
    assert second.scores == (1.0,)


def test_rows_without_facts_are_no_copies(store: Store) -> None:
    put(store, np.eye(8, dtype=np.float32)[[0, 0]])
    (group,) = find_groups(store, 0.9, None)
    assert group.same == 0


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range(library: Library, threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        library.duplicates(threshold)


def test_thousands_of_copies_are_one_group(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", StoreSchema(8, COLUMNS, {}))
    vectors = np.tile(clusters(6, 1)[:1], (20_000, 1))
    put(store, vectors, content=["same"] * 20_000)
    with at_most(60, 300):
        (group,) = find_groups(store, 0.95, None)
    assert (len(group.others), group.same) == (19_999, 19_999)


def test_thousands_of_equal_pictures_end_with_an_error_not_in_all_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 200_000)
    store = open_store(tmp_path / "store", StoreSchema(8, COLUMNS, {}))
    vectors = np.tile(clusters(6, 1)[:1], (6000, 1))
    put(store, vectors, content=[str(row) for row in range(6000)], size=list(range(6000)))
    with at_most(60, 400), pytest.raises(InputError, match="higher threshold, or a filter"):
        find_groups(store, 0.95, None)
    (group,) = find_groups(store, 0.95, "size < 50")  # a filter helps
    assert len(group.others) == 49


def test_duplicates_of_files(library: Library, photos: Path, clip: Clip) -> None:
    shutil.copy(photos / "a.png", photos / "a copy.png")
    os.utime(photos / "a copy.png", (10, 10))
    save_photo(photos / "large.png", 0, 41, 37)
    library.add(photos)
    groups = library.duplicates(0.9999)
    copies = {Path(str(row["id"])).name for row in (groups[0].keep, *groups[0].others)}
    assert {"a.png", "a copy.png"} <= copies
    assert all(group.keep["width"] >= row["width"] for group in groups for row in group.others)
