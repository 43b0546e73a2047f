"""Stored vectors come back unchanged, with their space, and another space is refused."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ecliptic.checkpoints import Checkpoint
from ecliptic.engine import Card, load_vectors, save_vectors, vectors as module
from ecliptic.errors import (
    MissingExtraError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
    StorageError,
)
from tests import tiny

SUFFIXES = [".npy", ".safetensors", ".parquet"]
IDS = ["café.jpg", "猫/😀.png", "non-utf8-\udcff.jpg", ""]


def card(seed: int = 0, preprocess: Mapping[str, str] | None = None) -> Card:
    checkpoint: Checkpoint = tiny.checkpoint("vit", seed=seed)
    return Card(
        name=f"tiny-{seed}",
        layout="ecliptic",
        config=checkpoint.config,
        image_spec=checkpoint.image_spec,
        tokenizer_spec=checkpoint.tokenizer_spec,
        preprocess=preprocess or {"preprocess": "reference"},
        precision="fp32",
        device="cpu",
        notes=(),
        weights=checkpoint.weights,
    )


def rows(count: int = 4) -> torch.Tensor:
    return torch.randn(count, card().embed, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ids", [IDS, None])
def test_vectors_and_ids_come_back(tmp_path: Path, suffix: str, ids: list[str] | None) -> None:
    path = tmp_path / "new" / f"v{suffix}"
    save_vectors(path, rows(), card(), ids)
    found = load_vectors(path, card(preprocess={"preprocess": "robust"}))  # one space
    np.testing.assert_array_equal(found.vectors, rows().numpy())
    assert found.vectors.dtype == np.float32
    assert found.ids == (None if ids is None else tuple(ids))
    assert (found.space, found.exact, found.model) == (card().space, card().exact, "tiny-0")
    assert path.stat().st_mode & 0o444 == (tmp_path / "new").stat().st_mode & 0o444
    none = np.zeros((0, card().embed), np.float32)
    save_vectors(path, none, card(), [] if ids else None, overwrite=True)
    assert load_vectors(path).vectors.shape == (0, card().embed)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a15_another_space_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    save_vectors(path, rows(), card())
    with pytest.raises(SpaceMismatchError, match=r"of tiny-0 .* but the model is tiny-1 .* embed"):
        load_vectors(path, card(seed=1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a4_damage_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    save_vectors(path, rows(), card(), IDS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="does not hold vectors with a fingerprint"):
        load_vectors(path)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="does not hold vectors with a fingerprint"):
        load_vectors(path)
    with pytest.raises(StorageError, match="there is no file"):
        load_vectors(tmp_path / f"none{suffix}")


def test_a_missing_or_foreign_sidecar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    np.save(path, rows().numpy())
    with pytest.raises(StorageError, match=r"write it with `ecliptic embed` or `save_v") as caught:
        load_vectors(path)
    assert "v.npy.json: No such file or directory)" in str(caught.value)
    assert "Errno" not in str(caught.value)
    save_vectors(path, rows(), card())
    np.save(path, rows().numpy() + 1)
    with pytest.raises(StorageError, match="its sidecar was written for other rows"):
        load_vectors(path)
    for text in ('{"space": "x"}', "[1]", "null", "{", "[" * 100_000, "\xff"):
        Path(f"{path}.json").write_text(text, encoding="latin-1")
        with pytest.raises(StorageError, match="does not hold vectors with a fingerprint"):
            load_vectors(path)


@pytest.mark.parametrize(
    ("tensor", "change", "words"),
    [
        (np.zeros(32, np.float32), {}, r"shape \(32,\) where \(N, E\) float32"),
        (np.zeros((1, 32), np.float64), {}, "float64 of shape"),
        (np.zeros((2, 32), np.float32), {}, "its ids are not 2 texts"),
        (np.zeros((1, 32), np.float32), {"space": 1}, "fingerprints are not texts"),
        (np.zeros((1, 32), np.float32), {"ecliptic": "[]"}, "JSON is a list"),
    ],
)
def test_what_others_wrote_is_checked(
    tmp_path: Path, tensor: np.ndarray, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "v.safetensors"
    about = {"space": "a", "exact": "b", "model": "c"} | change
    metadata = {"ecliptic": about.pop("ecliptic", None) or json.dumps(about)}
    ids = np.frombuffer(b'["one"]', np.uint8)
    save_file({"vectors": tensor, "ids": ids}, path, metadata)
    with pytest.raises(StorageError, match=words):
        load_vectors(path)


@pytest.mark.parametrize("ids", [5, "abcd", {"a": 1}, [1, 2, 3, 4], ["a"], True])
def test_ids_that_are_no_list_of_texts_are_refused(tmp_path: Path, ids: Any) -> None:
    save_vectors(tmp_path / "v.npy", rows(), card())
    sidecar = tmp_path / "v.npy.json"
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | {"ids": ids}))
    with pytest.raises(StorageError, match="its ids are not 4 texts"):
        load_vectors(tmp_path / "v.npy")


@pytest.mark.parametrize(
    "columns",
    [
        {"vector": [1, 2]},
        {"vector": [[1.0], [2.0, 3.0]]},
        {"vector": ["a", "b"]},
        {"vector": [{"a": 1}]},
        {"id": ["a", "b"]},
        {"vector": np.zeros((2, 4), np.float32), "id": [1, 2]},
        {"vector": np.zeros((2, 4), np.float32), "id": ["a", None]},
        {"vector": np.zeros((2, 4), np.int64), "id": ["a", "b"]},
        {"vector": np.full((1, 4), np.nan, np.float32)},
    ],
)
def test_other_parquet_columns_are_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), 4)
        if isinstance(value, np.ndarray)
        else pa.array(value)
        for name, value in columns.items()
    }
    about = {b"ecliptic": json.dumps({"space": "a", "exact": "b", "model": "c"}).encode()}
    parquet.write_table(pa.table(arrays).replace_schema_metadata(about), tmp_path / "v.parquet")
    with pytest.raises(StorageError, match="does not hold vectors with a fingerprint"):
        load_vectors(tmp_path / "v.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a14_rows_that_are_no_numbers_are_not_written(
    tmp_path: Path, suffix: str, value: float
) -> None:
    bad = rows()
    bad[2, 5] = value
    with pytest.raises(NumericalError, match=r"row 2 \(c\) holds NaN or infinity"):
        save_vectors(tmp_path / f"v{suffix}", bad, card(), ["a", "b", "c", "d"])
    with pytest.raises(NumericalError, match="row 2 holds"):
        save_vectors(tmp_path / f"v{suffix}", bad, card())
    assert not list(tmp_path.iterdir())


def test_a_sidecar_is_json_for_everybody(tmp_path: Path) -> None:
    """A file name that is not UTF-8 must not make a file that is not JSON."""
    save_vectors(tmp_path / "v.npy", rows(), card(), IDS)
    assert json.loads((tmp_path / "v.npy.json").read_bytes().decode("ascii"))["ids"] == IDS


def test_half_a_character_is_kept_or_refused(tmp_path: Path) -> None:
    for suffix in (".npy", ".safetensors"):
        save_vectors(tmp_path / f"v{suffix}", rows(1), card(), ["\ud800"])
        assert load_vectors(tmp_path / f"v{suffix}").ids == ("\ud800",)
    with pytest.raises(StorageError, match=r"not a text that Parquet can hold; write \.npy"):
        save_vectors(tmp_path / "v.parquet", rows(1), card(), ["\ud800"])


def test_ids_stay_out_of_the_header(tmp_path: Path) -> None:
    """safetensors refuses headers above 100 MB; millions of paths are more."""
    path, ids = tmp_path / "v.safetensors", [f"{i:0100}" for i in range(1000)]
    save_vectors(path, rows(1000), card(), ids)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 1000
    assert load_vectors(path).ids == tuple(ids)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_where_nothing_can_be_written_is_named(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be a folder, .*; choose another path"):
        save_vectors(tmp_path / "file" / f"v{suffix}", rows(), card())
    (tmp_path / f"v{suffix}").mkdir()
    with pytest.raises(StorageError, match=r"cannot be written: .*; check the path"):
        save_vectors(tmp_path / f"v{suffix}", rows(), card())


def test_pickles_in_npy_files_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    save_vectors(path, rows(), card())
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StorageError, match="does not hold vectors"):
        load_vectors(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"v{suffix}"
    save_vectors(path, rows(), card(), IDS)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match="cannot be written: disk full; check the path"):
        save_vectors(path, rows(2), card(), overwrite=True)
    monkeypatch.undo()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_vectors_are_not_replaced_unless_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v{suffix}"
    save_vectors(path, rows(), card(), IDS)
    save_vectors(path, rows(), card(), IDS)  # the same content
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for other, ids in ((rows(2), None), (rows(), None), (rows() + 1, IDS)):
        with pytest.raises(StorageError, match=r"exists with other content; .*overwrite=True"):
            save_vectors(path, other, card(), ids)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    save_vectors(path, rows(2), card(), overwrite=True)
    assert len(load_vectors(path)) == 2


def test_a14_wrong_shapes_ids_and_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"tiny-0 gives \(N, 32\) vectors, got \(4, 7\)"):
        save_vectors(tmp_path / "v.npy", torch.ones(4, 7), card())
    with pytest.raises(ShapeError, match="4 vectors need 4 ids, got 1"):
        save_vectors(tmp_path / "v.npy", rows(), card(), ["a"])
    with pytest.raises(StorageError, match=r"use \.npy, \.safetensors, \.parquet"):
        save_vectors(tmp_path / "v.csv", rows(), card())
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ecliptic\[parquet\]'"):
        module.check_vectors_path(tmp_path / "v.parquet")
    module.check_vectors_path(tmp_path / "v.npy")
