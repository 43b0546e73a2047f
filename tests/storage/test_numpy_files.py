"""NumPy files are read as NumPy reads them, or refused before anything is reserved."""

import io
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecliptic.errors import CorruptFileError
from ecliptic.storage import map_npy, read_npy, read_npz
from tests.storage.faults import damage_bytes, flip_bytes

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def npy(header: bytes, data: bytes = b"", version: bytes = b"\x01\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


def about(descr: str = "<f4", fortran: str = "False", shape: str = "(3, 4)") -> bytes:
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()


@pytest.mark.parametrize(
    "array",
    [ROWS, ROWS.T, np.asfortranarray(ROWS), ROWS[0], np.float16(3), np.zeros((0, 5)), ROWS > 2],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read_as_numpy_reads_it(
    tmp_path: Path, array: Any, version: tuple[int, int]
) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, np.asanyarray(array), version)
    np.savez_compressed(tmp_path / "a.npz", a=array, b=ROWS)
    for found in (
        read_npy(tmp_path / "a.npy"),
        map_npy(tmp_path / "a.npy"),
        read_npz(tmp_path / "a.npz", ["a", "c"], 1000)[0]["a"],
    ):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.asarray(array).dtype
        assert found.shape == np.shape(array)
        assert found.flags.writeable


CRAFTED = {
    "huge": npy(about(shape="(999999999999999999, 4)")),
    "2 ** 63": npy(about(shape=f"({2**63}, {2**63})")),
    "negative": npy(about(shape="(-3, -4)"), ROWS.tobytes()),
    "too short": npy(about(), ROWS.tobytes()[:-1]),
    "too long": npy(about(), ROWS.tobytes() + b"x"),
    "many axes": npy(about(shape="(" + "1, " * 40 + ")"), b"1234"),
    "no rows of much": npy(about(shape=f"(0, {2**62})")),
    "objects": npy(about("|O"), ROWS.tobytes()),
    "texts": npy(about("<U3", shape="(4,)"), ROWS.tobytes()),
    "other end first": npy(about(">f4"), ROWS.tobytes()),
    "records": npy(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (12,), }\n"),
    "code": npy(b"{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (1,)}\n"),
    "deep": npy(b"[" * 9000),
    "a long header": npy(about() + b" " * 20_000, ROWS.tobytes()),
    "a header beyond the end": npy(about())[:-3],
    "version 9": npy(about(), ROWS.tobytes(), b"\x09\0"),
    "nothing": b"",
    "a zip's head": b"PK\x03\x04" + bytes(100),
    "only the magic": b"\x93NUMPY",
}


@pytest.mark.parametrize("how", CRAFTED)
def test_crafted_arrays_are_refused_without_memory(tmp_path: Path, how: str) -> None:
    (tmp_path / "a.npy").write_bytes(CRAFTED[how])
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", CRAFTED[how])
    tracemalloc.start()
    with pytest.raises(CorruptFileError):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(CorruptFileError):
        map_npy(tmp_path / "a.npy")
    with pytest.raises(CorruptFileError):
        read_npz(tmp_path / "a.npz", ["a"], 1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_c4_a_bomb_is_unpacked_neither_when_unused_nor_when_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.npy", bytes(200 << 20))
        file.writestr("a.npy", npy(about(), ROWS.tobytes()))
    tracemalloc.start()
    found, names = read_npz(path, ["a"], 1 << 20)
    assert found["a"].tolist() == ROWS.tolist()
    assert names == ["a", "bomb"]
    with pytest.raises(CorruptFileError, match="more than the"):
        read_npz(path, ["a", "bomb"], 1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_a5_a_changed_byte_of_an_npz_gives_the_same_array_or_an_error(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, a=ROWS)
    path, data = tmp_path / "a.npz", buffer.getvalue()
    changed = [*flip_bytes(data, 0), *damage_bytes(data, 0, 300)]
    for what, content in changed:
        path.write_bytes(content)
        try:
            found, _ = read_npz(path, ["a"], 1 << 20)
        except CorruptFileError:
            continue
        if "a" in found:  # else its name has changed
            assert found["a"].tolist() == ROWS.tolist(), what


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(CorruptFileError, match="must be a"):
            read_npy(path)
        with pytest.raises(CorruptFileError, match="must be a"):
            read_npz(path, ["a"], 1000)
