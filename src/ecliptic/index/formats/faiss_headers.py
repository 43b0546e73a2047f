"""Looks at the first bytes of a FAISS index before FAISS reads the file.

A file begins with four letters that name its kind. Kinds that keep whole vectors, or vectors with
rounded values, can be read; the others keep codes from which no vector can be got back.

Source: FAISS 1.15.1, faiss/impl/index_write.cpp (`write_index`, `write_index_header`).
"""

import struct
from pathlib import Path

from ecliptic.errors import StorageError
from ecliptic.storage import open_regular

_HEADER = struct.Struct("<4siqqqBi")  # kind, E, N, two fillers, is trained, metric
_WITH_VALUE = 1  # metrics above it have a float more
_MAPS = ("IxMp", "IxM2")  # IndexIDMap: ids for the rows of the index that follows
_READABLE = ("IxFI", "IxF2", "IxFl", "IwFl", "IxSQ", "IwSq", "IHNf", "IHNs", "IxPT", *_MAPS)
_LOSSY = {
    "IxPQ": "product quantisation",
    "IxPq": "product quantisation",
    "IxPo": "product quantisation",
    "IwPQ": "product quantisation",
    "IwQR": "product quantisation",
    "IwPf": "product quantisation",
    "IxPf": "product quantisation",
    "IvPQ": "product quantisation",
    "IHNp": "product quantisation",
    "IHN2": "product quantisation",
    "Ixrq": "RaBitQ",
    "Ixrr": "RaBitQ",
    "Iwrq": "RaBitQ",
    "Iwrr": "RaBitQ",
    "IxHe": "locality-sensitive hashing",
    "IxRq": "residual quantisation",
    "IxRQ": "residual quantisation",
    "IwRQ": "residual quantisation",
    "IxLS": "local search quantisation",
    "IwLS": "local search quantisation",
}
_BINARY = "IB"
_SMALLEST = 2  # values in a byte, in the shortest codes that are read before they are refused


def has_faiss_header(start: bytes) -> bool:
    """Whether a file that begins like this may be a FAISS index."""
    kind = start[:4].decode("latin-1")
    return kind in _READABLE or kind in _LOSSY or kind.startswith((_BINARY, "Ix", "Iw", "IHN"))


def check_faiss_header(path: Path) -> str:
    """The four letters of an index whose vectors can be got back.

    Raises:
        StorageError: it is no index, one of codes, or cut short.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(2 * _HEADER.size + 8)
    outer = _check_one(path, start, size)
    if outer in _MAPS:
        metric = _HEADER.unpack_from(start)[6]
        _check_one(path, start[_HEADER.size + 4 * (metric > _WITH_VALUE) :], size)
    return outer


def _check_one(path: Path, start: bytes, size: int) -> str:
    kind = start[:4].decode("latin-1")
    if not has_faiss_header(start):
        raise StorageError(
            f"{path} does not begin as a FAISS index, but with {start[:4]!r}; pass a file that "
            "faiss.write_index wrote."
        )
    if kind.startswith(_BINARY):
        raise lossy(path, "binary codes")
    if kind in _LOSSY:
        raise lossy(path, f"codes of {_LOSSY[kind]}")
    if kind not in _READABLE:
        raise unknown_kind(path, f"{kind!r}")
    if len(start) < _HEADER.size:
        raise StorageError(f"{path} ends in its header; write or fetch it again.")
    _, width, rows, *_ = _HEADER.unpack_from(start)
    if width < 1 or rows < 0 or rows * width // _SMALLEST > size:
        raise StorageError(
            f"{path} tells of {rows} vectors of {width} values, which do not fit into its {size} "
            "bytes; write or fetch it again."
        )
    return kind


def lossy(path: Path, what: str) -> StorageError:
    """The error that the vectors of an index cannot be got back, because it keeps `what`."""
    return StorageError(
        f"{path} keeps {what}, not vectors, so they cannot be got back; read the vectors that it "
        "was made from, such as clip-retrieval's folder with img_emb, or embed the images again."
    )


def unknown_kind(path: Path, kind: str) -> StorageError:
    """The error that indexes of a kind are not read."""
    return StorageError(
        f"{path} is a FAISS index of the kind {kind}, which is not read; those with flat vectors "
        "(Flat, IVF-Flat, HNSW-Flat) or scalar quantisation of 8 or 16 bits are. Read the vectors "
        "that it was made from, or write them as Flat."
    )
