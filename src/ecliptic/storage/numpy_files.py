"""Reads NumPy's `.npy` and `.npz` files: only plain numbers, and never more than the file declares.

NumPy's own reader evaluates the header as Python, reserves what a shape asks for before it looks at
the data, and unpacks any member of a zip. Here a header is matched by a pattern, its shape must fit
the bytes exactly, and a member is unpacked only if it is wanted and within a limit.

Source: NumPy, numpy/lib/_format_impl.py (versions 1.0 to 3.0 of the format).
"""

import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.errors import CheckpointError, CorruptFileError
from ecliptic.storage.opening import map_file, open_regular
from ecliptic.storage.pickled.zip_archive import Archive

Array = NDArray[Any]
_MAGIC = b"\x93NUMPY"
_LONGEST = 10_000  # bytes of a header; NumPy's own limit
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z]\d{0,4})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,19}, ?)*(?:\d{1,19})?)\), ?\}[ \n]*"
)
_KINDS = ("|b1", "|i1", "|u1", *(f"<{kind}{size}" for kind in "fiu" for size in (2, 4, 8)))


def read_npy(path: Path) -> Array:
    """Read the array of a `.npy` file.

    Raises:
        CorruptFileError: damaged, or it holds objects or other values than numbers.
        OSError: it does not exist or cannot be opened.
    """
    with open_regular(path, CorruptFileError) as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(_LONGEST + 12)
        dtype, shape, fortran, data = _read_header(start, f"{path}")
        _check_size(f"{path}", shape, dtype, size - data)
        file.seek(data)
        flat = np.fromfile(file, dtype, math.prod(shape))
    return flat.reshape(shape, order="F" if fortran else "C")


def map_npy(path: Path) -> Array:
    """Like `read_npy`, but the values stay in the file and are read when they are used.

    Raises:
        CorruptFileError: as for `read_npy`, or the file cannot be mapped.
        OSError: it does not exist or cannot be opened.
    """
    memory = map_file(path)
    dtype, shape, fortran, data = _read_header(memory[: _LONGEST + 12], f"{path}")
    _check_size(f"{path}", shape, dtype, len(memory) - data)
    flat = np.frombuffer(memory, dtype, math.prod(shape), data)
    return flat.reshape(shape, order="F" if fortran else "C")


def read_npz(path: Path, names: Collection[str], limit: int) -> tuple[dict[str, Array], list[str]]:
    """Read those of `names` that a `.npz` file holds; returns them, and the names of all arrays.

    Args:
        path: of the file.
        names: the arrays to read.
        limit: bytes that they may take together.

    Raises:
        CorruptFileError: damaged, beyond the limit, or a wanted array holds other than numbers.
        OSError: it does not exist or cannot be opened.
    """
    with open_regular(path, CorruptFileError) as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            raise CorruptFileError("it holds one array, not several named ones")
    try:
        archive = Archive(path)
        members = {name.removesuffix(".npy"): name for name in archive.entries}
        found = {}
        for name in sorted(members.keys() & {*names}):
            data = archive.unpack(members[name], limit)
            limit -= len(data)
            found[name] = _parse(data, name)
    except CheckpointError as error:
        raise CorruptFileError(str(error)) from None
    return found, sorted(members)


def _parse(data: bytes, what: str) -> Array:
    dtype, shape, fortran, start = _read_header(data[: _LONGEST + 12], what)
    _check_size(what, shape, dtype, len(data) - start)
    flat = np.frombuffer(data, dtype, offset=start).copy()
    return flat.reshape(shape, order="F" if fortran else "C")


def _read_header(start: bytes, what: str) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """The dtype, the shape, whether columns come first, and where the data begin."""
    wide = 2 if start[6:7] == b"\x01" else 4
    size = int.from_bytes(start[8 : 8 + wide], "little")
    header = start[8 + wide : 8 + wide + size]
    if not start.startswith(_MAGIC) or start[6:8] not in (b"\x01\0", b"\x02\0", b"\x03\0"):
        raise CorruptFileError(f"{what} does not begin as a NumPy array")
    match = _HEADER.fullmatch(header) if size <= _LONGEST and len(header) == size else None
    if match is None:
        raise CorruptFileError(f"the header of {what} is damaged")
    descr = match[1].decode()
    if descr not in _KINDS:
        raise CorruptFileError(f"{what} holds values of the type {descr!r}, not plain numbers")
    shape = tuple(int(n) for n in match[3].decode().replace(",", " ").split())
    if len(shape) > 32:
        raise CorruptFileError(f"{what} has {len(shape)} axes")
    return np.dtype(descr), shape, match[2] == b"True", 8 + wide + size


def _check_size(what: str, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if needed != size or max(shape, default=0) >= 1 << 48:
        raise CorruptFileError(
            f"{what} of shape {shape[:8]} needs {needed} bytes, but {size} are there"
        )
