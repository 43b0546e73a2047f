"""The vectors of all sources of a command, named and in order: computed, or read from files.

N rows, E vector size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecliptic.cli.output import on_terminal, say, say_rejects
from ecliptic.engine import (
    Clip,
    Embedding,
    Item,
    Rejects,
    embed_items,
    escape_surrogates,
    load_vectors,
    progress_bar,
)
from ecliptic.errors import InputError, SpaceMismatchError, printable

if TYPE_CHECKING:
    from torch import Tensor

    from ecliptic.cli.sources import ImageSources, Set

AT_ONCE = 4096  # rows of `blocks`


@dataclass
class NamedVectors:
    """Vectors with the name of each row, and the items that could not be used."""

    names: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the rows among all items
    images: list[str | None] = field(default_factory=list)  # the file of each row, if it is one
    rejects: Rejects = field(default_factory=Rejects)
    parts: list[NDArray[np.float32]] = field(default_factory=list)  # of (N, E)

    def add(self, names: Iterable[str], vectors: NDArray[np.float32]) -> None:
        """Add (N, E) vectors that are stored."""
        first = self._seen()
        self.names += names
        self.parts.append(vectors)
        self.places += range(first, first + len(vectors))
        self.images += [None] * len(vectors)

    def add_embedding(self, done: Embedding, items: list[str | None]) -> None:
        """Add computed vectors; `items` has the file of every item, used or not."""
        first = self._seen()
        bad = {reject.index for reject in done.rejects}
        for reject in done.rejects:
            self.rejects.add(first + reject.index, reject.source, reject.error)
        kept = [index for index in range(len(items)) if index not in bad]
        self.names += done.names
        self.parts.append(done.vectors())
        self.places += [first + index for index in kept]
        self.images += [items[index] for index in kept]

    def blocks(self) -> "Iterator[Tensor]":
        """All vectors in order, (n, E) of at most `AT_ONCE` rows."""
        import torch

        for part in self.parts:
            for start in range(0, len(part), AT_ONCE):
                yield torch.from_numpy(np.array(part[start : start + AT_ONCE]))

    def matrix(self) -> "Tensor":
        """All vectors, (N, E)."""
        import torch

        return torch.cat(list(self.blocks()))

    def labels(self) -> list[Any]:
        """The labels for a plot: the image if there is one, else the name."""
        from ecliptic.inputs import open_image

        pairs = zip(self.names, self.images, strict=True)
        return [open_image(image) if image else name for name, image in pairs]

    def report(self) -> None:
        """Say which items were rejected; raise InputError if no item is left."""
        say_rejects(self.rejects, len(self.rejects))
        if not self.names:
            raise InputError("none of the items could be used.")

    def _seen(self) -> int:
        return len(self.names) + len(self.rejects)


def gather(sources: "ImageSources", clip: Clip | None) -> NamedVectors:
    """The vectors of all paths of `sources`, in order; a bar on a terminal shows the progress.

    `clip` may be None when all are stored vectors.

    Raises:
        SpaceMismatchError: stored vectors are of another space than the model or than the file
            before.
    """
    side, space = NamedVectors(), ""
    for stored, some in groupby(sources.inputs or (), sources.is_stored):
        paths = list(some)
        if stored:
            for path in paths:
                space = _add_stored(side, path, clip, space)
        elif clip is not None:
            total = sources.count(paths) if on_terminal() else None
            _add_items(side, clip, sources.sets(paths), total)
    return side


def gather_texts(sets: "Iterable[Set]", clip: Clip) -> NamedVectors:
    """The vectors of texts."""
    side = NamedVectors()
    _add_items(side, clip, sets, None)
    return side


def _add_stored(side: NamedVectors, path: str, clip: Clip | None, space: str) -> str:
    """Add the vectors of a file; returns their space, which must be `space` if that is known."""
    stored = load_vectors(path, clip.card if clip else None)
    if space not in ("", stored.space):
        raise SpaceMismatchError(
            f"{printable(path)} holds vectors of another space ({stored.model}) than the files "
            "before it; embed all of them with one model, and int8 ones with one precision."
        )
    rows = range(len(stored.vectors))
    names = stored.ids or [f"{escape_surrogates(path)}[{row}]" for row in rows]
    side.add(names, stored.vectors)
    return stored.space


def _add_items(side: NamedVectors, clip: Clip, sets: "Iterable[Set]", total: int | None) -> None:
    files: list[str | None] = []

    def noted(items: Iterator[Item], *, images: bool) -> Iterator[Item]:
        for item in items:
            files.append(item.value if images and isinstance(item.value, str) else None)
            yield item

    watched = ((kind, noted(items, images=kind == "image")) for kind, items in sets)
    with progress_bar("items", total, show=on_terminal()) as advance:
        done = embed_items(clip, watched, None, advance, lambda text: say(f"warning: {text}"))
    with done:
        if done.interrupted:
            raise KeyboardInterrupt
        side.add_embedding(done, files)
