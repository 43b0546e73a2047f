"""Files of codes are made again when they are missing, damaged, foreign or cannot be written."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ecliptic.index import Store, open_store
from ecliptic.index.codes import coding
from ecliptic.index.codes.coding import _multiply, code_queries, code_rows
from ecliptic.storage import read_safetensors
from tests.index.rows import put, random_vectors, small_store
from tests.storage.faults import damage_bytes, flip_bytes

QUERY = random_vectors(1, 50)[0]


def ids(store: Store) -> tuple[str, ...]:
    return store.search(QUERY, 6).hits[0].ids


def code_files(folder: Path) -> list[Path]:
    return sorted((folder / "codes").glob("*.safetensors"))


def tensors(path: Path) -> dict[str, bytes]:
    return {name: x.numpy().tobytes() for name, x in read_safetensors(path).tensors.items()}


@pytest.mark.parametrize("width", [1, 2, 3, 8, 33, 512])
@pytest.mark.parametrize("rows", [1, 2, 5, 100])
def test_products_of_codes_are_exact(width: int, rows: int) -> None:
    draw = np.random.default_rng(0)
    queries, codes = (
        draw.integers(-127, 128, (count, width)).astype(np.int8) for count in (3, rows)
    )
    found = _multiply(torch.from_numpy(queries), torch.from_numpy(codes))
    assert (found.numpy() == queries.astype(np.int64) @ codes.astype(np.int64).T).all()


def test_scores_of_codes_are_near_the_cosines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64, with a large mean that all rows share, as real vectors have one."""
    monkeypatch.setattr(coding, "_AT_ONCE", 64)  # rows that are coded together
    rows = random_vectors(200, 0, width=64) / 8 + 0.3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query = random_vectors(2, 1, width=64)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    codes = code_rows(torch.from_numpy(rows), torch.arange(200, dtype=torch.int32))
    coded = code_queries(torch.from_numpy(query))
    right = query.astype(np.float64) @ rows.astype(np.float64).T
    np.testing.assert_allclose(codes.score(coded), right, atol=0.006)
    some = torch.tensor([3, 77])
    torch.testing.assert_close(codes.score(coded, some), codes.score(coded)[:, some])


def test_missing_codes_are_made_again(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    wanted = ids(store)
    files = {path.name: tensors(path) for path in code_files(tmp_path)}
    assert len(files) == 3
    shutil.rmtree(tmp_path / "codes")
    assert ids(open_store(tmp_path)) == wanted
    assert {path.name: tensors(path) for path in code_files(tmp_path)} == files


def test_codes_of_another_file_are_made_again(tmp_path: Path) -> None:
    wanted = ids(small_store(tmp_path))
    first, second, _ = code_files(tmp_path)
    sound = tensors(first)
    shutil.copy(second, first)
    assert ids(open_store(tmp_path)) == wanted
    assert tensors(first) == sound


def test_a5_damaged_codes_are_found_and_removed(tmp_path: Path) -> None:
    wanted = ids(small_store(tmp_path))
    first = code_files(tmp_path)[0]
    sound, right = first.read_bytes(), tensors(first)
    for what, data in [*flip_bytes(sound, 0, 20), *damage_bytes(sound, 1, 10)]:
        first.write_bytes(data)
        store = open_store(tmp_path)
        assert store.check() == []
        problems = store.check(deep=True)
        assert [problem.where for problem in problems] == [f"codes/{first.name}"], what
        assert len(set(ids(store))) == 6  # no row twice
        store.repair()
        assert ids(open_store(tmp_path)) == wanted, what
        assert tensors(first) == right


def test_codes_that_cannot_be_written_stay_in_memory(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    (tmp_path / "codes").write_text("no folder")
    wanted = ids(store)
    (tmp_path / "codes").unlink()
    assert ids(open_store(tmp_path)) == wanted


def test_codes_and_drafts_that_nobody_needs_are_removed(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    wanted = ids(store)
    drafts = [
        tmp_path / "codes" / f".x.{'0' * 16}.draft",
        tmp_path / f".checksums.jsonl.{'1' * 16}.draft",
    ]
    for draft in drafts:
        draft.touch()
    store.compact()
    assert code_files(tmp_path) == []
    assert not any(draft.exists() for draft in drafts)
    assert ids(store) == wanted
    assert len(code_files(tmp_path)) == 1


@pytest.mark.parametrize("when", ["before the codes", "after the codes"])
def test_deleted_rows_are_not_found(tmp_path: Path, when: str) -> None:
    store = small_store(tmp_path)
    wanted = [id_ for id_ in store.search(QUERY, 15, exact=True).hits[0].ids if id_ != "row-7"]
    if when == "before the codes":
        shutil.rmtree(tmp_path / "codes", ignore_errors=True)
    else:
        ids(store)
    store.delete(["row-7"])
    for again in (store, open_store(tmp_path)):
        assert list(again.search(QUERY, 15).hits[0].ids) == wanted
    put(store, 0, 10)
    assert set(store.search(QUERY, 20).hits[0].ids) == {f"row-{n}" for n in range(15)}
