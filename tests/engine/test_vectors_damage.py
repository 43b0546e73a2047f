"""A damaged or crafted file of vectors gives an error of ours, never other vectors or ids."""

import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ecliptic.engine import load_vectors, save_vectors
from ecliptic.errors import StorageError
from tests.engine.test_vectors import IDS, SUFFIXES, card, rows
from tests.storage.faults import damage_bytes, flip_bytes
from tests.waiting import at_most

ABOUT = {"space": "a", "exact": "b", "model": "c"}


def files(folder: Path, suffix: str) -> tuple[Path, list[Path]]:
    path = folder / f"v{suffix}"
    save_vectors(path, rows(), card(), IDS)
    return path, sorted(folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a4_a5_a_changed_byte_gives_the_same_vectors_or_an_error(
    tmp_path: Path, suffix: str
) -> None:
    path, written = files(tmp_path, suffix)
    for file in written:
        data = file.read_bytes()
        for what, changed in [*flip_bytes(data, 0, 400), *damage_bytes(data, 1, 100)]:
            file.write_bytes(changed)
            try:
                found = load_vectors(path)
            except StorageError:
                continue
            assert np.array_equal(found.vectors, rows().numpy()), (file.name, what)
            assert found.ids == tuple(IDS), (file.name, what)
            assert found.space == card().space, (file.name, what)
            assert found.exact == card().exact, (file.name, what)
            assert found.model == "tiny-0", (file.name, what)
        file.write_bytes(data)


@pytest.mark.parametrize("what", ["ids", "space", "exact", "model", "more"])
def test_the_checksum_covers_ids_and_fingerprints(tmp_path: Path, what: str) -> None:
    path, (_, sidecar) = files(tmp_path, ".npy")
    about = json.loads(sidecar.read_text())
    about[what] = ["x", *IDS[1:]] if what == "ids" else "0" * 64
    sidecar.write_text(json.dumps(about))
    with pytest.raises(StorageError, match="written for other rows, ids or fingerprints"):
        load_vectors(path)


def test_the_checksum_covers_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    save_vectors(path, rows(), card())
    np.save(path, rows().numpy().reshape(8, 16))
    with pytest.raises(StorageError, match="written for other rows"):
        load_vectors(path)


def test_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    metadata = {"ecliptic": json.dumps(ABOUT)}
    save_file({"vectors": np.ones((1, 4), np.float32)}, path, metadata)
    with pytest.raises(StorageError, match="it has no checksum"):
        load_vectors(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nested_json_takes_no_memory(tmp_path: Path, suffix: str) -> None:
    nested = "[" + "[]," * 400_000 + "[]]"
    path = tmp_path / f"v{suffix}"
    if suffix == ".npy":
        np.save(path, np.ones((1, 4), np.float32))
        Path(f"{path}.json").write_text('{"ids": ' + nested + "}")
    elif suffix == ".safetensors":
        ids = np.frombuffer(nested.encode(), np.uint8)
        vectors = np.ones((1, 4), np.float32)
        save_file({"vectors": vectors, "ids": ids}, path, {"ecliptic": json.dumps(ABOUT)})
    else:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4, np.float32)), 4)
        table = pa.table({"vector": column}).replace_schema_metadata({"ecliptic": nested})
        parquet.write_table(table, path, compression="none")
    tracemalloc.start()
    with pytest.raises(StorageError, match="its JSON is nested"):
        load_vectors(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_c4_rows_that_unpack_to_more_than_the_file_are_refused(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "v.parquet"
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(4_000_000, np.float32)), 4)
    table = pa.table({"vector": zeros}).replace_schema_metadata({"ecliptic": json.dumps(ABOUT)})
    for how in ({"compression": "zstd"}, {"compression": "none", "use_dictionary": True}):
        parquet.write_table(table, path, **how)
        with pytest.raises(StorageError, match="declares more rows than it can hold"):
            load_vectors(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".npy.json"])
def test_a_pipe_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    if suffix == ".npy.json":
        save_vectors(tmp_path / "v.npy", rows(), card())
        (tmp_path / "v.npy.json").unlink()
    elif suffix == ".npy":
        (tmp_path / "v.npy.json").write_text(json.dumps({"ids": None}))
    os.mkfifo(tmp_path / f"v{suffix}")
    with pytest.raises(StorageError, match="is a pipe"):
        load_vectors(tmp_path / f"v{suffix.removesuffix('.json')}")


@pytest.mark.parametrize("ids", [b"\xff", b'["\\ud800"', b"[1e999]", b"9" * 5000, b"[" * 100_000])
def test_odd_ids_are_refused(tmp_path: Path, ids: bytes) -> None:
    path = tmp_path / "v.safetensors"
    tensors = {"vectors": np.ones((1, 4), np.float32), "ids": np.frombuffer(ids, np.uint8)}
    save_file(tensors, path, {"ecliptic": json.dumps(ABOUT)})
    with pytest.raises(StorageError, match="does not hold vectors with a fingerprint"):
        load_vectors(path)


@pytest.mark.parametrize("size", [(64 << 20) + 4 * (32 << 10) + 1, 3 << 30])
def test_a_sidecar_too_large_for_its_rows_is_not_read(tmp_path: Path, size: int) -> None:
    path, (_, sidecar) = files(tmp_path, ".npy")
    os.truncate(sidecar, size)  # sparse
    with at_most(seconds=5, mebibytes=5), pytest.raises(StorageError, match="too many for a file"):
        load_vectors(path)


def test_the_limit_of_a_sidecar_has_a_limit(tmp_path: Path) -> None:
    path, (_, sidecar) = files(tmp_path, ".npy")
    np.save(path, np.zeros((100_000, 1), np.float32))
    os.truncate(sidecar, (1 << 30) + 1)
    with at_most(seconds=5, mebibytes=5), pytest.raises(StorageError, match="1073741824 bytes"):
        load_vectors(path)


def test_ids_that_readers_refuse_are_not_written_beside_npy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ecliptic.storage.vector_facts._SIDECAR", 1 << 10)
    monkeypatch.setattr("ecliptic.storage.vector_facts._PER_ROW", 0)
    ids = ["x" * 2000, *IDS[1:]]
    with pytest.raises(StorageError, match=r"ids of .* write \.safetensors or \.parquet"):
        save_vectors(tmp_path / "v.npy", rows(), card(), ids)
    assert list(tmp_path.iterdir()) == []
    save_vectors(tmp_path / "v.safetensors", rows(), card(), ids)
    assert load_vectors(tmp_path / "v.safetensors").ids == tuple(ids)
