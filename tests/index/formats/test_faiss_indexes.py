"""FAISS indexes that keep vectors give them back; those that keep codes are refused, with why."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import MissingExtraError, StorageError
from ecliptic.index import open_vectors
from ecliptic.index.formats.faiss_headers import check_faiss_header
from tests.index.formats.written import WIDTH, join_blocks, unit_rows, write_parquet
from tests.waiting import at_most

with warnings.catch_warnings():  # of SWIG, about its own types
    warnings.simplefilter("ignore", DeprecationWarning)
    faiss = pytest.importorskip("faiss", reason="pip install faiss-cpu")

ROWS = unit_rows(300)
L2, IP = faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT


def write_index(path: Path, kind: str, metric: int = IP, rows: Any = ROWS, ids: Any = None) -> Path:
    index = faiss.index_factory(rows.shape[1], kind, metric)
    index.train(rows)
    index.add(rows) if ids is None else index.add_with_ids(rows, ids)
    faiss.write_index(index, f"{path}")
    return path


@pytest.mark.parametrize("metric", [L2, IP])
@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("Flat", 0),
        ("IVF4,Flat", 0),
        ("HNSW8,Flat", 0),
        ("SQ8", 0.01),
        ("SQfp16", 0.001),
        ("SQbf16", 0.005),
        ("IVF4,SQ8", 0.01),
        ("IVF4,SQfp16", 0.001),
        ("HNSW8,SQ8", 0.01),
    ],
)
def test_vectors_come_back_in_the_order_of_their_ids(
    tmp_path: Path, kind: str, error: float, metric: int
) -> None:
    source = open_vectors(write_index(tmp_path / "a.index", kind, metric))
    assert (source.kind, source.rows, source.width) == ("faiss", 300, WIDTH)
    found = join_blocks(source)
    assert found.ids == tuple(map(str, range(300)))
    np.testing.assert_allclose(found.vectors, ROWS, rtol=0, atol=error)
    rounded = any("keeps values of 8 bits" in note for note in source.notes)
    assert rounded == ("SQ8" in kind)


@pytest.mark.parametrize("metric", [IP, faiss.METRIC_L1])  # after others the header is longer
@pytest.mark.parametrize("kind", ["IDMap,Flat", "IDMap2,Flat", "IDMap,IVF4,Flat", "IVF4,Flat"])
def test_ids_of_the_index_are_kept(tmp_path: Path, kind: str, metric: int) -> None:
    if metric != IP and "IVF" in kind:
        pytest.skip("FAISS has no lists for this metric")
    ids = np.random.default_rng(0).permutation(300) * 1_000_003 - 5
    path = write_index(tmp_path / "a.index", kind, metric, ids=ids)
    found = join_blocks(open_vectors(path))
    order = np.argsort(ids)
    assert found.ids == tuple(map(str, ids[order]))
    np.testing.assert_array_equal(found.vectors, ROWS[order])
    (tmp_path / "n.json").write_text(json.dumps([f"{n}.jpg" for n in range(300)]))
    with pytest.raises(StorageError, match=r"has ids of its own, from -5 to .*leave out the names"):
        open_vectors(path, names=tmp_path / "n.json")


def test_blocks_of_an_index_are_small_and_names_come_from_a_file(tmp_path: Path) -> None:
    rows = unit_rows(5000)
    ids = np.random.default_rng(0).permutation(5000)
    path = write_index(tmp_path / "a.faiss", "IDMap,Flat", rows=rows[ids], ids=ids)
    (tmp_path / "n.json").write_text(json.dumps([f"{n}.jpg" for n in range(5000)]))
    source = open_vectors(path, names=tmp_path / "n.json")
    assert [len(block.ids) for block in source.blocks()] == [4096, 904]
    found = join_blocks(source)
    assert found.ids[4999] == "4999.jpg"
    np.testing.assert_array_equal(found.vectors, rows)
    pytest.importorskip("pyarrow")
    write_parquet(Path(f"{path}.parquet"), {"id": range(5000), "size": range(5000)})
    beside = open_vectors(path)
    assert beside.notes == ("ids and columns are those of a.faiss.parquet.",)
    assert join_blocks(beside).columns["size"] == list(range(5000))


def test_ids_that_come_twice_are_told_or_refused(tmp_path: Path) -> None:
    ids = np.arange(300) // 2
    found = open_vectors(write_index(tmp_path / "a.index", "IDMap,Flat", ids=ids))
    assert "150 ids were there before; a store keeps the last row of an id." in found.notes
    np.testing.assert_array_equal(join_blocks(found).vectors, ROWS)
    with pytest.raises(StorageError, match="several vectors of one id"):
        open_vectors(write_index(tmp_path / "b.index", "IVF4,Flat", ids=ids))


def test_lengths_of_an_index_of_distances_are_told(tmp_path: Path) -> None:
    rows = ROWS * np.linspace(1, 3, 300, dtype=np.float32)[:, None]
    source = open_vectors(write_index(tmp_path / "a.index", "Flat", L2, rows))
    assert "the first ones: 1 to 3); a store keeps their direction only" in source.notes[-1]


COARSE = faiss.IndexFlatL2(WIDTH)
CODES: dict[str, Callable[[], Any]] = {  # not trained: they are refused before that matters
    "PQ": lambda: faiss.IndexPQ(WIDTH, 2, 4),
    "IVFPQ": lambda: faiss.IndexIVFPQ(COARSE, WIDTH, 4, 2, 4),
    "RaBitQ": lambda: faiss.IndexRaBitQ(WIDTH, L2),
    "IVFRaBitQ": lambda: faiss.IndexIVFRaBitQ(COARSE, WIDTH, 4, L2),
    "LSH": lambda: faiss.IndexLSH(WIDTH, 16),
    "RQ": lambda: faiss.IndexResidualQuantizer(WIDTH, 1, 2),
    "SQ4": lambda: faiss.IndexScalarQuantizer(WIDTH, faiss.ScalarQuantizer.QT_4bit),
    "IDMap PQ": lambda: faiss.IndexIDMap(faiss.IndexPQ(WIDTH, 2, 4)),
    "OPQ": lambda: faiss.IndexPreTransform(
        faiss.RemapDimensionsTransform(WIDTH, WIDTH, True), faiss.IndexPQ(WIDTH, 2, 4)
    ),
}


@pytest.mark.parametrize("kind", CODES)
def test_indexes_of_codes_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.index"
    faiss.write_index(CODES[kind](), f"{path}")
    with pytest.raises(StorageError, match="not vectors, so they cannot be got back; read the vec"):
        open_vectors(path)
    if kind not in ("SQ4", "OPQ"):
        with pytest.raises(StorageError, match="codes of"):
            check_faiss_header(path)  # before FAISS reads it


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.index"
    faiss.write_index_binary(faiss.IndexBinaryFlat(16), f"{path}")
    with pytest.raises(StorageError, match="keeps binary codes"):
        open_vectors(path)
    with pytest.raises(StorageError, match="of the kind 'IxRF', which is not read"):
        open_vectors(write_index(path, "Flat,RFlat"))


@pytest.mark.parametrize("kind", ["PCA4,Flat", "L2norm,Flat", "RR8,Flat"])
def test_transforms_that_change_vectors_are_refused(tmp_path: Path, kind: str) -> None:
    path = write_index(tmp_path / "a.index", kind)
    with pytest.raises(StorageError, match="changes vectors before it keeps them"):
        open_vectors(path)


def test_a_transform_that_changes_nothing_is_read_through(tmp_path: Path) -> None:
    same = faiss.RemapDimensionsTransform(WIDTH, WIDTH, True)
    flat = faiss.IndexFlatIP(WIDTH)
    index = faiss.IndexPreTransform(same, flat)
    index.add(ROWS)
    faiss.write_index(index, f"{tmp_path / 'a.index'}")
    np.testing.assert_array_equal(join_blocks(open_vectors(tmp_path / "a.index")).vectors, ROWS)


@pytest.mark.parametrize(
    "kind", ["Flat", "IVF4,Flat", "HNSW8,Flat", "IDMap,Flat", "SQ8", "IDMap2,IVF4,SQ8"]
)
def test_a5_a_truncated_index_is_refused(tmp_path: Path, kind: str) -> None:
    ids = np.arange(300) if "IDMap" in kind else None
    path = write_index(tmp_path / "a.index", kind, ids=ids)
    data = path.read_bytes()
    for size in (4, 30, 60, len(data) // 2, *range(len(data) - 9, len(data))):
        path.write_bytes(data[:size])
        with pytest.raises(StorageError, match="write or fetch it again"):
            open_vectors(path)


@pytest.mark.parametrize("kind", ["Flat", "HNSW4,Flat", "IVF2,SQ8", "IDMap,Flat"])
def test_a5_changed_bytes_give_rows_or_an_error_in_time(tmp_path: Path, kind: str) -> None:
    """Without limits FAISS reserves gigabytes for some of these; others are other numbers."""
    ids = np.arange(300) if "IDMap" in kind else None
    path = write_index(tmp_path / "a.index", kind, ids=ids)
    data = path.read_bytes()
    random = np.random.default_rng(0)
    limits = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    found = []
    for place in random.integers(4, 300, 15):
        path.write_bytes(data[:place] + bytes([random.integers(256)]) + data[place + 1 :])
        try:
            with at_most(seconds=10, mebibytes=50):
                found.append(len(join_blocks(open_vectors(path)).ids))
        except StorageError:
            found.append(0)
    assert {*found} <= {0, 300}
    assert 0 in found
    assert limits == (
        faiss.get_deserialization_vector_byte_limit(),
        faiss.get_deserialization_loop_limit(),
    )


def test_other_files_are_refused_before_faiss_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_index(tmp_path / "a.index", "Flat")
    data = path.read_bytes()
    monkeypatch.setattr(faiss, "read_index", None)
    path.write_text("cat.jpg\ndog.jpg\n")
    with pytest.raises(StorageError, match=r"does not begin as a FAISS index, but with b'cat.'"):
        open_vectors(path)
    path.write_bytes(data[:8] + (1 << 50).to_bytes(8, "little") + data[16:])
    with pytest.raises(StorageError, match="1125899906842624 vectors of 8 values, which do not"):
        open_vectors(path)


def test_a_missing_faiss_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_index(tmp_path / "a.index", "Flat")
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingExtraError, match="pip install faiss-cpu"):
        open_vectors(path)
    monkeypatch.undo()
    monkeypatch.delattr(faiss, "set_deserialization_vector_byte_limit")
    with pytest.raises(MissingExtraError, match="pip install -U faiss-cpu"):
        open_vectors(path)
