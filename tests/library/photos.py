"""Small pictures in files, and what a library holds."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.library import AddSummary, Library
from tests.engine.models import draw


def save_photo(path: Path, seed: int = 0, width: int = 40, height: int = 36) -> Path:
    """Save a smooth random picture; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(seed, width, height).save(path)
    return path


def touch(path: Path, seconds: float = 10.0) -> None:
    """Make a file newer, or older with a negative number."""
    found = path.stat()
    os.utime(path, (found.st_atime, found.st_mtime + seconds))


def counts(summary: AddSummary) -> dict[str, int]:
    """What an `add` did, without zeros."""
    names = ("added", "changed", "moved", "copied", "unchanged", "rejected_before", "removed")
    found = {name: getattr(summary, name) for name in names}
    found |= {name: len(getattr(summary, name)) for name in ("rejected", "gone")}
    return {name: number for name, number in found.items() if number}


def rows_of(library: Library) -> dict[str, dict[str, Any]]:
    """The rows of a library by id."""
    return {row["id"]: row for block in library.store.read() for row in block.rows()}


def vectors_of(library: Library) -> dict[str, NDArray[np.float32]]:
    """The vectors of a library by id."""
    found: dict[str, NDArray[np.float32]] = {}
    for block in library.store.read(columns=[], vectors=True):
        for id_, vector in zip(block.ids, block.vectors, strict=True):
            assert id_ not in found
            found[id_] = vector
    return found


def check_vectors(library: Library, paths: list[Path]) -> None:
    """Assert that a library holds exactly these pictures, with the vectors of the model."""
    found = vectors_of(library)
    assert sorted(found) == sorted(map(str, paths))
    expected = library.clip.encode_image(sorted(map(str, paths))).numpy()
    np.testing.assert_allclose([found[id_] for id_ in sorted(found)], expected, atol=1e-5)
    assert library.check(deep=True) == []


def stored_thumbnails(library: Library, contents: Iterable[str]) -> dict[str, bytes]:
    """The thumbnails in the table of a library, by content."""
    found = library._parts.thumbnails.get(list(contents))
    return {content: cells["jpeg"] for content, cells in found.items()}
