"""Rows are written for other tools, which read them with their own libraries."""

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import MissingExtraError, NumericalError, ShapeError, StorageError
from ecliptic.index import (
    MemoryStore,
    RowBlock,
    StoreSchema,
    open_vectors,
    vector_outputs,
    write_vectors,
)
from ecliptic.index.formats.indexes import count_lists
from tests.index.formats.written import SCHEMA, WIDTH, join_blocks, store_block, unit_rows

parquet = pytest.importorskip("pyarrow.parquet")

BLOCKS = [store_block(0, 5), store_block(5, 1), store_block(6, 4)]
IDS = [id_ for block in BLOCKS for id_ in block.ids]
VECTORS = np.concatenate([block.vectors for block in BLOCKS if block.vectors is not None])


def library(name: str) -> Any:
    with warnings.catch_warnings():  # of SWIG, about its own types
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip(name)


def check_rows(found: RowBlock) -> None:
    """Whether ids and columns are those of BLOCKS."""
    assert list(found.ids) == IDS
    for name in SCHEMA.columns:
        wanted = [value for block in BLOCKS for value in block.columns[name]]
        assert found.columns[name] == wanted


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".index", ".faiss"])
def test_what_is_written_is_read_with_ids_columns_and_facts(tmp_path: Path, suffix: str) -> None:
    if suffix in (".index", ".faiss"):
        library("faiss")
    path = tmp_path / "new" / f"v{suffix}"
    written = write_vectors(path, iter(BLOCKS), SCHEMA)
    assert (written.rows, written.files) == (10, vector_outputs(path))
    assert {*path.parent.iterdir()} == {*written.files}
    source = open_vectors(path)
    assert source.columns == SCHEMA.columns
    assert source.facts == SCHEMA.facts
    found = join_blocks(source)
    check_rows(found)
    np.testing.assert_array_equal(found.vectors, VECTORS)


def test_parquet_has_typed_columns_and_lists_of_one_width(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    assert write_vectors(path, BLOCKS, SCHEMA).layout == "Parquet"
    table = parquet.read_table(path)
    assert {field.name: f"{field.type}" for field in table.schema} == {
        "id": "string",
        "vector": "fixed_size_list<element: float>[8]",
        "caption": "string",
        "size": "int64",
        "score": "double",
        "safe": "bool",
        "taken": "timestamp[us]",
    }
    assert json.loads(table.schema.metadata[b"ecliptic.store"]) == SCHEMA.facts
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), VECTORS)
    assert table["id"].to_pylist() == IDS


def test_npy_is_read_by_numpy_and_has_a_table_beside_it(tmp_path: Path) -> None:
    written = write_vectors(tmp_path / "v.npy", BLOCKS, SCHEMA)
    assert written.layout == "NumPy float32"
    rows = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert (rows.dtype, rows.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(rows, VECTORS)
    beside = parquet.read_table(tmp_path / "v.npy.parquet")
    assert beside["id"].to_pylist() == IDS
    assert "vector" not in beside.schema.names


def test_few_rows_are_a_flat_index_of_faiss(tmp_path: Path) -> None:
    faiss = library("faiss")
    assert write_vectors(tmp_path / "v.index", BLOCKS, SCHEMA).layout == "FAISS Flat"
    index = faiss.read_index(f"{tmp_path / 'v.index'}")
    assert (index.ntotal, index.metric_type) == (10, faiss.METRIC_INNER_PRODUCT)
    scores, places = index.search(VECTORS, 1)
    assert places[:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(scores, 1, rtol=1e-5)


def many(count: int) -> Iterator[RowBlock]:
    for start in range(0, count, 4096):
        ids = tuple(map(str, range(start, min(start + 4096, count))))
        yield RowBlock(ids, {}, unit_rows(len(ids), seed=start))


def test_many_rows_are_an_index_of_faiss_with_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss = library("faiss")
    monkeypatch.setattr("ecliptic.index.formats.indexes.FEWEST", 5000)
    written = write_vectors(tmp_path / "v.index", many(5000), StoreSchema(WIDTH))
    assert (written.layout, written.rows) == ("FAISS IVF256,Flat", 5000)
    index = faiss.read_index(f"{tmp_path / 'v.index'}")
    assert (index.nlist, index.nprobe) == (256, 64)
    rows = np.concatenate([block.vectors for block in many(5000) if block.vectors is not None])
    queries = unit_rows(50, seed=9)
    _, places = index.search(queries, 10)
    exact = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :10]
    pairs = zip(places, exact, strict=True)
    assert np.mean([len({*some} & {*others}) / 10 for some, others in pairs]) > 0.99
    np.testing.assert_array_equal(join_blocks(open_vectors(tmp_path / "v.index")).vectors, rows)


@pytest.mark.parametrize(
    ("rows", "lists"), [(0, 0), (19_999, 0), (20_000, 512), (100_000, 1024), (1_000_000, 2048)]
)
def test_the_number_of_lists_is_a_power_of_two_that_can_be_trained(rows: int, lists: int) -> None:
    assert count_lists(rows) == lists
    assert 39 * lists <= rows


def test_usearch_finds_what_was_written(tmp_path: Path) -> None:
    library("usearch")
    import usearch.index

    path = tmp_path / "v.usearch"
    assert write_vectors(path, BLOCKS, SCHEMA).layout == "usearch float16"
    index = usearch.index.Index.restore(f"{path}")
    assert (len(index), index.ndim) == (10, WIDTH)
    matches = index.search(VECTORS, 1)
    assert matches.keys[:, 0].tolist() == list(range(10))
    np.testing.assert_allclose(index.get(3).astype(np.float32), VECTORS[3], atol=1e-3)
    assert parquet.read_table(f"{path}.parquet")["id"].to_pylist() == IDS
    with pytest.raises(StorageError, match=r"v\.usearch is no file of vectors that is read"):
        open_vectors(path)


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".index", ".usearch"])
def test_no_rows_can_be_written(tmp_path: Path, suffix: str) -> None:
    library({".index": "faiss", ".usearch": "usearch"}.get(suffix, "numpy"))
    assert write_vectors(tmp_path / f"v{suffix}", [], SCHEMA).rows == 0
    if suffix != ".usearch":
        assert join_blocks(open_vectors(tmp_path / f"v{suffix}")).ids == ()


def test_a_store_is_written_and_read_into_another(tmp_path: Path) -> None:
    first, second = MemoryStore(SCHEMA), MemoryStore(SCHEMA)
    for block in BLOCKS:
        first.upsert(block.ids, block.vectors, block.columns)  # type: ignore[arg-type]
    write_vectors(tmp_path / "v.npy", first.read(vectors=True), SCHEMA)
    for block in open_vectors(tmp_path / "v.npy").blocks():
        second.upsert(block.ids, block.vectors, block.columns)  # type: ignore[arg-type]
    found = next(second.read(vectors=True))
    check_rows(found)
    np.testing.assert_array_equal(found.vectors, VECTORS)


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".index", ".usearch"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, suffix: str) -> None:
    library({".index": "faiss", ".usearch": "usearch"}.get(suffix, "numpy"))
    path = tmp_path / f"v{suffix}"
    files = write_vectors(path, BLOCKS, SCHEMA).files
    before = {file: file.read_bytes() for file in files}
    with pytest.raises(StorageError, match=r"exists; choose another path, or pass overwrite=True"):
        write_vectors(path, BLOCKS, SCHEMA)

    def broken() -> Iterator[RowBlock]:
        yield BLOCKS[0]
        raise LookupError("the store is gone")

    with pytest.raises(LookupError):
        write_vectors(path, broken(), SCHEMA, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert write_vectors(path, BLOCKS[:1], SCHEMA, overwrite=True).rows == 5


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
@pytest.mark.parametrize("name", ["a\nb", "non-utf8-\udcff", "猫" * 60])
def test_files_can_have_any_name(tmp_path: Path, suffix: str, name: str) -> None:
    path = tmp_path / f"{name}{suffix}"
    write_vectors(path, BLOCKS, SCHEMA)
    check_rows(join_blocks(open_vectors(path)))


@pytest.mark.parametrize(("tool", "suffix"), [("faiss", ".index"), ("usearch", ".usearch")])
def test_names_that_a_library_cannot_open_are_refused(
    tmp_path: Path, tool: str, suffix: str
) -> None:
    library(tool)
    path = tmp_path / f"a\udcff{suffix}"
    with pytest.raises(StorageError, match=r"whose name is not UTF-8; rename it"):
        write_vectors(path, BLOCKS, SCHEMA)
    assert list(tmp_path.iterdir()) == []
    if tool == "faiss":
        write_vectors(tmp_path / "a.index", BLOCKS, SCHEMA).files[-1].rename(path)
        with pytest.raises(StorageError, match=r"FAISS cannot open .*a\\udcff.index, whose name"):
            open_vectors(path)


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, block = tmp_path / "v.npy", BLOCKS[0]
    with pytest.raises(ShapeError, match=r"rows 0 and on need vectors of shape \(5, 8\), got none"):
        write_vectors(path, [RowBlock(block.ids, block.columns)], SCHEMA)
    wrong = RowBlock(block.ids, block.columns, unit_rows(5, width=4))
    with pytest.raises(ShapeError, match=r"rows 5 and on need vectors of .* got \(5, 4\)"):
        write_vectors(path, [block, wrong], SCHEMA)
    with pytest.raises(ShapeError, match="have the columns none, but the schema caption, size"):
        write_vectors(path, [RowBlock(block.ids, {}, block.vectors)], SCHEMA)
    rows = unit_rows(5)
    rows[2, 1] = np.nan
    with pytest.raises(NumericalError, match=r"the vector of 'a/2\\n.jpg' has NaN or infinity"):
        write_vectors(path, [RowBlock(block.ids, block.columns, rows)], SCHEMA)
    odd = RowBlock(block.ids, {**block.columns, "size": ["x"] * 5}, block.vectors)
    with pytest.raises(StorageError, match="a value of 'size' cannot be written as int64"):
        write_vectors(path, [odd], SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match=r"no known suffix for vectors; use .parquet, .npy"):
        vector_outputs("v.csv")
    (tmp_path / "v.npy.json").write_text("{}")
    with pytest.raises(StorageError, match="would be taken for the ids of these vectors"):
        write_vectors(tmp_path / "v.npy", BLOCKS, SCHEMA)
    for name, suffix in (("faiss", ".index"), ("usearch", ".usearch"), ("pyarrow", ".npy")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingExtraError, match="pip install"):
            vector_outputs(f"v{suffix}")
        monkeypatch.undo()
