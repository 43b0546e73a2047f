"""The work behind `ecliptic similarity`: texts, images and stored vectors as rows and columns.

N rows, E vector size.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.engine import Clip, Rejects, escape_surrogates, image_files, load_vectors
from ecliptic.errors import SpaceMismatchError, printable

STORED = {".npy", ".safetensors", ".parquet"}


@dataclass
class Compared:
    """Named vectors: the rows or the columns of a similarity matrix."""

    names: list[str] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)  # of (N, E)
    paths: list[str | None] = field(default_factory=list)  # of images, for their thumbnails
    rejects: Rejects = field(default_factory=Rejects)

    def add(
        self, names: Iterable[str], vectors: Tensor, paths: Iterable[str] | None = None
    ) -> None:
        """Add (N, E) vectors."""
        names = list(names)
        self.names += names
        self.vectors.append(vectors)
        self.paths += paths if paths is not None else [None] * len(names)

    def matrix(self) -> Tensor:
        """All vectors, (N, E)."""
        return torch.cat(self.vectors)


def is_stored(path: str) -> bool:
    """Whether `path` has the suffix of a file of vectors."""
    return Path(path).suffix in STORED


def compare_paths(paths: Iterable[str], clip: Clip | None) -> Compared:
    """Images, folders and files of stored vectors, in order.

    `clip` may be None when all are stored vectors.

    Raises:
        SpaceMismatchError: stored vectors are of another space than the model or than the file
            before.
    """
    side, space = Compared(), clip.card.space if clip and any(map(is_stored, paths)) else None
    for path in paths:
        if is_stored(path):
            stored = load_vectors(path, clip.card if clip else None)
            space = space or stored.space
            if stored.space != space:
                raise SpaceMismatchError(
                    f"{printable(path)} holds vectors of another space ({stored.model}) than the "
                    "files before it; embed all of them with one model."
                )
            names = stored.ids or tuple(
                f"{escape_surrogates(path)}[{i}]" for i in range(len(stored.vectors))
            )
            side.add(names, torch.from_numpy(stored.vectors))
        elif clip is not None:
            _add_images(side, path, clip)
    return side


def _add_images(side: Compared, path: str, clip: Clip) -> None:
    items = list(image_files(path))
    found = clip.encode_image([item.value for item in items], on_error="reject")
    kept = [items[i] for i in found.kept]
    side.add([item.name for item in kept], found.vectors, [str(item.value) for item in kept])
    for bad in found.rejected:
        side.rejects.add(len(side.rejects), items[bad.index].name, bad.error)


def labels_of(side: Compared) -> list[Any]:
    """The labels for a plot: the image if there is one, else the name."""
    from ecliptic.inputs import open_image

    return [
        open_image(path) if path else name
        for name, path in zip(side.names, side.paths, strict=True)
    ]
