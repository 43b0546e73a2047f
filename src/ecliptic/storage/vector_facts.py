"""What stands beside saved vectors: fingerprints, ids and a checksum of it all, as JSON.

N rows, E vector size.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDECAR = 64 << 20  # bytes of a sidecar: for fingerprints and a few long texts,
_PER_ROW = 32 << 10  # more for each row: a path of 4,096 bytes takes 24 KiB at most,
_LARGEST_SIDECAR = 1 << 30  # and together
_BRACKETS = 8  # in the JSON of a file, outside of texts
_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')


def checksum_vectors(
    rows: Iterable[NDArray[np.float32]],
    shape: tuple[int, ...],
    ids: Sequence[str] | None,
    about: Mapping[str, Any],
) -> str:
    """SHA-256 of the fingerprints, ids, shape and values.

    Args:
        rows: the vectors, in pieces.
        shape: (N, E) of all.
        ids: of the rows.
        about: the fingerprints; `sha256` and `ids` in it do not count.
    """
    others = {name: value for name, value in about.items() if name not in ("sha256", "ids")}
    found = hashlib.sha256(json.dumps([others, shape, ids], sort_keys=True).encode() + b"\0")
    for piece in rows:
        found.update(np.ascontiguousarray(piece).data)
    return found.hexdigest()


def sidecar_of(path: Path) -> Path:
    """The file with the facts and ids of a `.npy` file."""
    return Path(f"{path}.json")


def limit_sidecar(rows: int) -> int:
    """The bytes that the sidecar of `rows` vectors may have."""
    return min(_SIDECAR + rows * _PER_ROW, _LARGEST_SIDECAR)


def parse_facts(data: bytes) -> dict[str, Any]:
    """Parse a JSON object of texts, numbers and lists of these.

    Raises:
        ValueError: it is anything else.
    """
    value = parse_flat_json(data)
    if not isinstance(value, dict):
        raise ValueError(f"its JSON is a {type(value).__name__}, not an object")
    return value


def parse_flat_json(data: bytes) -> Any:
    """Parse JSON of texts; nested lists would take 20 times the memory of the file.

    Raises:
        ValueError: it is no JSON, or nested.
    """
    text = data.decode()
    if text.count("[") + text.count("{") > _BRACKETS:
        outside = _TEXTS.sub("", text)
        if outside.count("[") + outside.count("{") > _BRACKETS:
            raise ValueError("its JSON is nested")
    return json.loads(text)
