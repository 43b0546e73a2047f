"""What `save_vectors` writes is read with its fingerprints, whole, or refused."""

from pathlib import Path

import numpy as np
import pytest

from ecliptic.engine import save_vectors
from ecliptic.errors import StorageError
from ecliptic.index import open_vectors
from tests.engine.test_vectors import SUFFIXES, card, rows
from tests.index.formats.written import join_blocks

IDS = ["a.jpg", "猫/😀.png", "c", "d"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("ids", [IDS, None])
def test_rows_ids_and_fingerprints_come_back(
    tmp_path: Path, suffix: str, ids: list[str] | None
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    save_vectors(tmp_path / f"v{suffix}", rows(), card(), ids)
    source = open_vectors(tmp_path / f"v{suffix}")
    assert source.kind == f"ecliptic {suffix[1:]}"
    assert source.facts == {"space": card().space, "exact": card().exact, "model": "tiny-0"}
    found = join_blocks(source)
    assert list(found.ids) == (ids or ["0", "1", "2", "3"])
    assert any("there are no ids" in note for note in source.notes) == (ids is None)
    np.testing.assert_array_equal(found.vectors, rows().numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_rows_come_in_blocks(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    many = rows(5000)
    save_vectors(tmp_path / f"v{suffix}", many, card())
    source = open_vectors(tmp_path / f"v{suffix}")
    assert [len(block.ids) for block in source.blocks()] == [4096, 904]
    np.testing.assert_array_equal(join_blocks(source).vectors, many.numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a5_a_changed_value_is_found(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"v{suffix}"
    save_vectors(path, rows(), card(), IDS)
    data = bytearray(path.read_bytes())
    place = data.index(rows().numpy()[2].tobytes())
    data[place + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match=r"checksum is that of other rows.*write it again with"):
        open_vectors(path)


def test_options_that_change_nothing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    save_vectors(path, rows(), card(), IDS)
    with pytest.raises(StorageError, match="of its own that ids= cannot change; leave it out"):
        open_vectors(path, ids="id")
    (tmp_path / "v.npy.parquet").touch()
    with pytest.raises(StorageError, match=r"both v.npy.json and v.npy.parquet stand beside"):
        open_vectors(path)
    (tmp_path / "v.npy.parquet").unlink()
    (tmp_path / "v.npy.json").write_text("{}")
    with pytest.raises(StorageError, match="does not hold whole vectors with a fingerprint"):
        open_vectors(path)
