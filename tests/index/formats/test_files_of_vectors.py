"""Single files of vectors, `.npy` and Parquet: rows as they are, or a clear refusal."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import StorageError
from ecliptic.index import MemoryStore, StoreSchema, open_vectors
from tests.index.formats.written import join_blocks, unit_rows, write_parquet

pa = pytest.importorskip("pyarrow")


def lists(rows: Any) -> Any:
    return pa.array([None if row is None else [float(x) for x in row] for row in rows])


def test_npy_has_the_numbers_of_rows_or_names_as_ids(tmp_path: Path) -> None:
    path, rows = tmp_path / "v.npy", unit_rows(3)
    np.save(path, rows)
    source = open_vectors(path)
    assert source.notes == ("there are no names, so the ids are the numbers of the rows.",)
    found = join_blocks(source)
    assert found.ids == ("0", "1", "2")
    np.testing.assert_array_equal(found.vectors, rows)
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["[a", '{b"', "猫"]))
    assert join_blocks(open_vectors(path, names=names)).ids == ("[a", '{b"', "猫")
    table = tmp_path / "names.parquet"
    write_parquet(table, {"image_path": ["x", "y", "z"], "size": [1, 2, 3]})
    found = join_blocks(open_vectors(path, names=table))
    assert (found.ids, found.columns) == (("x", "y", "z"), {"size": [1, 2, 3]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["a"]', "v.npy has 3 vectors, but .*names.json names 1 rows"),
        ('["a", "b", 3]', "is not a JSON list of texts"),
        ('{"a": 1}', "is not a JSON list of texts"),
        ("[" * 100_000, "is not JSON .*nested"),
        ("a, b, c", "is not JSON"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    np.save(tmp_path / "v.npy", unit_rows(3))
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(StorageError, match=message):
        open_vectors(tmp_path / "v.npy", names=tmp_path / "names.json")


def test_names_in_other_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", unit_rows(3))
    with pytest.raises(StorageError, match=r"names are read from .parquet, or .json with a list"):
        open_vectors(tmp_path / "v.npy", names=tmp_path / "names.txt")
    with pytest.raises(StorageError, match=r"names.json cannot be read: No such file"):
        open_vectors(tmp_path / "v.npy", names=tmp_path / "names.json")
    with pytest.raises(StorageError, match=r"names.parquet cannot be read: No such file"):
        open_vectors(tmp_path / "v.npy", names=tmp_path / "names.parquet")
    with pytest.raises(StorageError, match="has no columns, so none can be named"):
        open_vectors(tmp_path / "v.npy", ids="id")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 4), np.int64), "holds int64 of shape .* vectors are floats"),
        (np.zeros(3, np.float32), r"of shape \(3,\), but vectors are floats of shape \(N, E\)"),
        (np.zeros((2, 3, 4), np.float32), "of shape"),
        (np.zeros((3, 0), np.float32), "vectors of 0 values"),
        (np.array([["a"]], object), "not plain numbers"),
    ],
)
def test_arrays_that_are_no_vectors_are_refused(tmp_path: Path, rows: Any, message: str) -> None:
    np.save(tmp_path / "v.npy", rows)
    with pytest.raises(StorageError, match=message):
        open_vectors(tmp_path / "v.npy")


def test_damaged_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, unit_rows(3))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StorageError, match=r"needs 96 bytes, but 91 are there\); write or fetch"):
        open_vectors(path)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="is empty"):
        open_vectors(path)
    with pytest.raises(StorageError, match="there is no file or folder"):
        open_vectors(tmp_path / "none.npy")
    (tmp_path / "v.csv").write_text("a,b\n")
    with pytest.raises(
        StorageError, match=r"no file of vectors that is read: it begins with b'a,b"
    ):
        open_vectors(tmp_path / "v.csv")
    (tmp_path / "v.parquet").write_bytes(b"PAR1" + b"\0" * 50)
    with pytest.raises(StorageError, match=r"v\.parquet cannot be read"):
        open_vectors(tmp_path / "v.parquet")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(StorageError, match=r"is a pipe \(FIFO\)"):
        open_vectors(tmp_path / "pipe.npy")
    with pytest.raises(StorageError, match="only a folder has part='text'"):
        open_vectors(path, part="text")


def test_rows_with_nan_or_zeros_are_read_and_refused_by_the_store(tmp_path: Path) -> None:
    rows = unit_rows(4).astype(np.float64)
    rows[1, 3], rows[2], rows[3, 0] = np.nan, 0, 1e300
    np.save(tmp_path / "v.npy", rows)
    source = open_vectors(tmp_path / "v.npy")
    found = join_blocks(source)
    assert found.vectors is not None
    written = MemoryStore(StoreSchema(8)).upsert(found.ids, found.vectors)
    assert written.added == 1
    assert [refused.id for refused in written.refused] == ["1", "2", "3"]


def test_lengths_other_than_one_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", unit_rows(3) * [[1.0], [2.0], [4.0]])
    note = open_vectors(tmp_path / "v.npy").notes[-1]
    assert note.startswith("the vectors do not have the length 1 (the first ones: 1 to 4);")
    np.save(tmp_path / "v.npy", unit_rows(3).astype(np.float16))
    assert "length" not in " ".join(open_vectors(tmp_path / "v.npy").notes)


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed", "half"])
def test_parquet_has_vectors_in_a_column_of_lists(tmp_path: Path, kind: str) -> None:
    rows = unit_rows(500)
    types = {
        "list": pa.list_(pa.float64()),
        "large_list": pa.large_list(pa.float32()),
        "fixed": pa.list_(pa.float32(), 8),
        "half": pa.list_(pa.float16(), 8),
    }
    rows = rows.astype(np.float16).astype(np.float32) if kind == "half" else rows
    values = [list(row.astype(np.float16) if kind == "half" else row) for row in rows]
    column = pa.array(values, types[kind])
    path = tmp_path / "v.parquet"
    write_parquet(path, {"id": [f"i{n}" for n in range(500)], "emb": column, "n": range(500)})
    source = open_vectors(path)
    assert (source.kind, source.rows, source.width) == ("parquet", 500, 8)
    assert source.notes == ("the vectors are in the column 'emb'.",)
    found = join_blocks(source)
    assert found.ids[-1] == "i499"
    assert found.columns["n"] == list(range(500))
    np.testing.assert_array_equal(found.vectors, rows)


def test_parquet_rows_without_a_vector_are_nan(tmp_path: Path) -> None:
    rows = unit_rows(3)
    write_parquet(tmp_path / "v.parquet", {"vector": lists([None, rows[0], None, rows[1]])})
    found = join_blocks(open_vectors(tmp_path / "v.parquet"))
    assert found.ids == ("0", "1", "2", "3")
    assert found.vectors is not None
    assert np.isnan(found.vectors[[0, 2]]).all()
    np.testing.assert_array_equal(found.vectors[[1, 3]], rows[:2])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1]}, "has no column of lists of floats: a, so"),
        ({"a": [[1.0]], "b": [[1.0]]}, r"several columns of floats \(a, b\).* name their column"),
        ({"vector": [[1.0, 2.0], [1.0]]}, "row 1 of .* has a vector of 1 values, but the first"),
        ({"vector": [[]]}, None),
        ({"vector": [[1.0]], "id": [1.5]}, None),
    ],
)
def test_parquet_without_clear_vectors_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str | None
) -> None:
    write_parquet(tmp_path / "v.parquet", columns)
    if columns.get("id"):  # floats are no ids, so they are a column
        assert open_vectors(tmp_path / "v.parquet").columns == {"id_": "float"}
        return
    with pytest.raises(StorageError, match=message or "no column of lists of floats"):
        open_vectors(tmp_path / "v.parquet")


def test_parquet_that_is_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    write_parquet(tmp_path / "v.parquet", {"vector": lists(unit_rows(3))})
    source = open_vectors(tmp_path / "v.parquet")
    write_parquet(tmp_path / "v.parquet", {"vector": lists(unit_rows(2))})
    with pytest.raises(StorageError, match="has 2 rows, but told of 3; it was changed"):
        list(source.blocks())
