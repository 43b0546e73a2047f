"""The folder of clip-retrieval: parts in order, row by row, or a clear refusal."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index import MemoryStore, StoreSchema, open_vectors
from tests.index.formats.written import join_blocks, unit_rows, write_shard

pa = pytest.importorskip("pyarrow")


def named(start: int, count: int, **more: Any) -> dict[str, Any]:
    return {"image_path": [f"{row}.jpg" for row in range(start, start + count)], **more}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_parts_are_read_in_the_order_of_their_numbers(tmp_path: Path, dtype: Any) -> None:
    rows = unit_rows(11).astype(dtype)
    for number, start, stop in (("2", 3, 6), ("10", 6, 11), ("0", 0, 3)):
        captions = [f"c{row}" for row in range(start, stop)]
        write_shard(
            tmp_path, number, rows[start:stop], named(start, stop - start, caption=captions)
        )
    source = open_vectors(tmp_path)
    assert (source.kind, source.rows, source.width) == ("clip-retrieval", 11, 8)
    assert source.columns == {"caption": "string"}
    assert source.facts == {}
    assert len(source.notes) == 1
    assert "no files have the number 1, 3, 4, 5, 6, ...;" in source.notes[0]
    found = join_blocks(source)
    assert found.ids == tuple(f"{row}.jpg" for row in range(11))
    assert found.columns == {"caption": [f"c{row}" for row in range(11)]}
    np.testing.assert_array_equal(found.vectors, rows.astype(np.float32))


def test_blocks_have_at_most_4096_rows_and_can_be_read_again(tmp_path: Path) -> None:
    rows = unit_rows(9000)
    write_shard(tmp_path, "0", rows, named(0, 9000))
    source = open_vectors(tmp_path)
    assert [len(block.ids) for block in source.blocks()] == [4096, 4096, 808]
    np.testing.assert_array_equal(join_blocks(source).vectors, rows)


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
COLUMNS = {  # name -> values, type in the store, values in the store
    "NSFW": (pa.array(["A", None]).dictionary_encode(), "string", ["A", None]),
    "width": (pa.array([640, None], pa.uint16()), "int", [640, None]),
    "similarity": (pa.array([0.5, float("nan")], pa.float32()), "float", [0.5, None]),
    "ok": ([True, None], "bool", [True, None]),
    "taken": (
        pa.array([NOON, None], pa.timestamp("ns", "Europe/Berlin")),
        "timestamp",
        [datetime(2024, 5, 1, 12), None],
    ),
    "day": (pa.array([NOON.date(), None]), "timestamp", [datetime(2024, 5, 1), None]),
    "in": (["a", "b"], "string", ["a", "b"]),
    "id": ([7, 8], "int", [7, 8]),
}
RENAMED = {"NSFW": "nsfw", "in": "in_", "id": "id_"}


def test_columns_of_all_types_come_with_their_values(tmp_path: Path) -> None:
    columns = {name: values for name, (values, _, _) in COLUMNS.items()}
    write_shard(tmp_path, "0", unit_rows(2), named(0, 2, **columns))
    source = open_vectors(tmp_path, ids="image_path")
    names = {name: RENAMED.get(name, name) for name in COLUMNS}
    assert source.columns == {names[name]: kind for name, (_, kind, _) in COLUMNS.items()}
    found = join_blocks(source)
    assert found.columns == {names[name]: values for name, (_, _, values) in COLUMNS.items()}
    assert source.notes == tuple(f"the column {a!r} is called {b!r}." for a, b in RENAMED.items())
    store = MemoryStore(StoreSchema(source.width, source.columns))
    written = store.upsert(found.ids, found.vectors, found.columns)  # type: ignore[arg-type]
    assert (written.added, written.refused) == (2, ())


def test_columns_without_a_type_of_a_store_are_left_out_by_name(tmp_path: Path) -> None:
    columns = {"exif": pa.nulls(2), "tags": [["a"], ["b"]], "__index_level_0__": [0, 1]}
    write_shard(tmp_path, "0", unit_rows(2), named(0, 2, **columns))
    source = open_vectors(tmp_path)
    assert source.columns == {}
    assert source.notes == (
        "the column 'exif' is left out: no row has a value.",
        "the column 'tags' is left out: a store has no type for list<element: string>.",
        "the column '__index_level_0__' is left out: it is the index of pandas.",
    )
    with pytest.raises(StorageError, match=r"'tags' of .* cannot be read: a store has no type for"):
        open_vectors(tmp_path, columns=["tags"])
    many = {f"c{number}": [0, 0] for number in range(65)}
    write_shard(tmp_path, "0", unit_rows(2), named(0, 2, **many))
    with pytest.raises(StorageError, match="has 65 columns, but a store at most 64; name those to"):
        open_vectors(tmp_path)


def test_the_ids_are_a_named_column_or_part_and_row(tmp_path: Path) -> None:
    for number, start in (("00", 0), ("01", 2)):
        write_shard(
            tmp_path, number, unit_rows(2), {"key": pa.array([start, None]), "url": ["x", "y"]}
        )
    assert join_blocks(open_vectors(tmp_path)).ids == ("00/0", "00/1", "01/0", "01/1")
    by_key = open_vectors(tmp_path, ids="key", columns=["url"])
    assert join_blocks(by_key).ids == ("0", "", "2", "")
    assert by_key.columns == {"url": "string"}
    with pytest.raises(StorageError, match="no column 'keys' of ids; did you mean 'key'"):
        open_vectors(tmp_path, ids="keys")
    with pytest.raises(StorageError, match="no column 'nothing' to read; its columns"):
        open_vectors(tmp_path, columns=["nothing"])
    with pytest.raises(StorageError, match=r"'key' of .* is read as the ids"):
        open_vectors(tmp_path, ids="key", columns=["key"])


def test_parts_with_other_types_are_joined_or_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, "0", unit_rows(1), named(0, 1, size=[1], alt=pa.nulls(1), odd=["x"]))
    write_shard(tmp_path, "1", unit_rows(1), named(1, 1, size=[1.5], alt=["b"], odd=[1]))
    with pytest.raises(StorageError, match=r"'odd' is string in .*_0.parquet, but int in .*_1.par"):
        open_vectors(tmp_path)
    write_shard(tmp_path, "2", unit_rows(1), named(2, 1, size=[3]))
    source = open_vectors(tmp_path, columns=["size", "alt"])
    assert source.columns == {"size": "float", "alt": "string"}
    assert join_blocks(source).columns == {"size": [1.0, 1.5, 3.0], "alt": [None, "b", None]}


def test_counts_that_differ_name_the_pair_and_both_counts(tmp_path: Path) -> None:
    write_shard(tmp_path, "0", unit_rows(3), named(0, 3))
    write_shard(tmp_path, "1", unit_rows(3), named(0, 2))
    with pytest.raises(StorageError, match=r"img_emb_1.npy has 3 vectors, but .*_1.parquet has 2"):
        open_vectors(tmp_path)


def test_a_part_without_its_pair_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, "0", unit_rows(3), named(0, 3))
    write_shard(tmp_path, "1", unit_rows(3), None)
    with pytest.raises(StorageError, match=r"img_emb_1.npy has no metadata of the same number"):
        open_vectors(tmp_path)
    (tmp_path / "img_emb" / "img_emb_1.npy").unlink()
    (tmp_path / "img_emb" / "img_emb_0.npy").rename(tmp_path / "img_emb" / "img_emb_2.npy")
    with pytest.raises(StorageError, match=r"metadata_0.parquet has no vectors of the same number"):
        open_vectors(tmp_path)


def test_vectors_without_metadata_are_read_with_a_note(tmp_path: Path) -> None:
    write_shard(tmp_path, "0", unit_rows(2), None)
    source = open_vectors(tmp_path)
    assert join_blocks(source).ids == ("0/0", "0/1")
    assert "has no metadata, so the ids are the numbers of part and row" in source.notes[0]
    with pytest.raises(StorageError, match="has no columns to name"):
        open_vectors(tmp_path, columns=["caption"])


def test_vectors_of_captions_are_read_on_request(tmp_path: Path) -> None:
    write_shard(tmp_path, "0", unit_rows(2), named(0, 2))
    with pytest.raises(StorageError, match=r"no text_emb/.* those of part='image' only"):
        open_vectors(tmp_path, part="text")
    (tmp_path / "text_emb").mkdir()
    np.save(tmp_path / "text_emb" / "text_emb_0.npy", unit_rows(2, seed=5))
    found = join_blocks(open_vectors(tmp_path, part="text"))
    np.testing.assert_array_equal(found.vectors, unit_rows(2, seed=5))
    with pytest.raises(ConfigError, match="part must be one of image, text"):
        open_vectors(tmp_path, part="img")


def test_hostile_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no img_emb/img_emb_.*pass the output folder"):
        open_vectors(tmp_path)
    write_shard(tmp_path, "0", unit_rows(2), named(0, 2))
    with pytest.raises(StorageError, match=f"pass the folder above, {tmp_path}"):
        open_vectors(tmp_path / "img_emb")
    with pytest.raises(StorageError, match="ids and columns of its own that names= cannot change"):
        open_vectors(tmp_path, names=tmp_path / "x.json")
    write_shard(tmp_path, "1", unit_rows(2, width=4), named(2, 2))
    with pytest.raises(StorageError, match=r"vectors of 8 values, but .*_1.npy of 4"):
        open_vectors(tmp_path)
    write_shard(tmp_path, "01", unit_rows(2), named(2, 2))
    with pytest.raises(StorageError, match="have the same number; move one"):
        open_vectors(tmp_path)


def test_a_part_that_is_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    write_shard(tmp_path, "0", unit_rows(5000), named(0, 5000))
    source = open_vectors(tmp_path)
    write_shard(tmp_path, "0", unit_rows(4000), named(0, 5000))
    with pytest.raises(StorageError, match="changed while it was read"):
        list(source.blocks())
