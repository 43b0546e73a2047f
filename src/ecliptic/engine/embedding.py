"""`embed_items` turns any number of items into vectors on disk, and collects the rejects.

Images are decoded and encoded a batch at a time, and vectors are written to a temporary file, so
memory holds only a batch and the names. N rows, E vector size.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.engine.clip import Clip
from ecliptic.engine.rejects import SHOWN, Rejects
from ecliptic.engine.sources.items import Item, Kind
from ecliptic.errors import StorageError, TextError
from ecliptic.inputs import TokenBatch, Tokenizer

TEXTS = 4096  # tokenized and sorted by length together
MOST_TEXT = 1 << 24  # characters of these


class Embedding:
    """The vectors embedded so far; a context manager that deletes the temporary file."""

    def __init__(self, embed: int) -> None:
        self.embed = embed  # E
        self.names: list[str] = []  # of the rows
        self.rejects = Rejects()
        self.seen = 0  # items
        self.interrupted = False
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 closed by `close`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary file."""
        self._spool.close()

    def add(self, vectors: Tensor, names: Iterable[str]) -> None:
        """Add (N, E) vectors and the names of their rows."""
        with _spooling():
            self._spool.write(vectors.contiguous().numpy().tobytes())
        self.names += names

    def usable(self, items: Iterable[Item]) -> Iterator[tuple[int, Item]]:
        """(index, item) of every item without an error; the others are rejected."""
        for item in items:
            index, self.seen = self.seen, self.seen + 1
            if item.error is not None:
                self.rejects.add(index, item.name, item.error)
            else:
                yield index, item

    def vectors(self) -> NDArray[np.float32]:
        """(N, E), mapped from disk."""
        shape = (len(self.names), self.embed)
        with _spooling():
            self._spool.flush()
        if not self.names:
            return np.empty(shape, dtype=np.float32)
        return np.memmap(self._spool, dtype=np.float32, mode="r", shape=shape)


@contextmanager
def _spooling() -> Iterator[None]:
    """Raise StorageError if the temporary file cannot be written."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the vectors cannot be kept in a temporary file in {tempfile.gettempdir()}: "
            f"{error.strerror}; free some space, or set TMPDIR to a larger disk."
        ) from error


def embed_items(
    clip: Clip,
    sets: Iterable[tuple[Kind, Iterable[Item]]],
    batch_size: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
    warn: Callable[[str], object] = lambda _: None,
) -> Embedding:
    """Embed each set of items in turn. Ctrl-C ends it early, with the vectors so far.

    Args:
        clip: the model.
        sets: images or texts, and their kind.
        batch_size: items at a time; None is that of `encode_text` and `encode_image`.
        advance: called with the number of items done since the last call.
        warn: called with messages about cut texts.
    """
    done = Embedding(clip.card.embed)
    try:
        for kind, items in sets:
            if kind == "image":
                counts = _embed_images(clip, items, batch_size, done)
            else:
                counts = _embed_texts(clip, items, batch_size, done, warn)
            for count in counts:
                advance(count)
    except KeyboardInterrupt:
        done.interrupted = True
    except BaseException:
        done.close()
        raise
    return done


def _embed_images(
    clip: Clip, items: Iterable[Item], batch_size: int | None, done: Embedding
) -> Iterator[int]:
    """Add the images' vectors to `done`; yields the number of images of each batch."""
    asked: list[tuple[int, str]] = []  # (index, name) of every image given to the model

    def sources() -> Iterator[str | bytes]:
        for index, item in done.usable(items):
            asked.append((index, item.name))
            yield item.value

    for part in clip.stream_image(sources(), batch_size=batch_size, on_error="reject"):
        done.add(part.vectors, [asked[i][1] for i in part.kept])
        for reject in part.rejected:
            done.rejects.add(*asked[reject.index], reject.error)
        yield len(part.kept) + len(part.rejected)


def _embed_texts(
    clip: Clip,
    items: Iterable[Item],
    batch_size: int | None,
    done: Embedding,
    warn: Callable[[str], object],
) -> Iterator[int]:
    """Add the texts' vectors to `done`; yields the number of texts of each batch."""
    usable, cut = done.usable(items), 0
    while some := _take_some(usable):
        count = len(some)
        some, tokens = _tokenize(clip.tokenizer, some, done.rejects)
        for row, find_dropped in tokens.cut.items():
            cut += 1
            if cut <= SHOWN:
                warn(f"text {some[row][0]} is too long and loses {find_dropped()[:80]!r}")
        texts = [str(item.value) for _, item in some]
        vectors = clip.encode_text(texts, overflow="truncate", batch_size=batch_size)
        done.add(vectors, [item.name for _, item in some])
        yield count
    if cut:
        warn(f"{cut} text(s) needed more than {clip.tokenizer.spec.context} tokens")


def _tokenize(
    tokenizer: Tokenizer, some: list[tuple[int, Item]], rejects: Rejects
) -> tuple[list[tuple[int, Item]], TokenBatch]:
    """The texts that can be tokenized, and their tokens; the others are rejected."""
    try:
        return some, tokenizer.batch([str(item.value) for _, item in some], "truncate")
    except TextError:  # one of them: find out which
        kept = []
    for index, item in some:
        try:
            tokenizer.batch([str(item.value)], "truncate")
            kept.append((index, item))
        except TextError as error:
            rejects.add(index, item.name, error)
    return kept, tokenizer.batch([str(item.value) for _, item in kept], "truncate")


def _take_some(items: Iterator[tuple[int, Item]]) -> list[tuple[int, Item]]:
    """The next texts: `TEXTS` of them, or fewer that are long."""
    some: list[tuple[int, Item]] = []
    total = 0
    for index, item in items:
        some.append((index, item))
        total += len(item.value)
        if len(some) == TEXTS or total >= MOST_TEXT:
            break
    return some
