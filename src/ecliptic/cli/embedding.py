"""The work behind `ecliptic embed`: entries in, vectors on disk as they come, rejects kept aside.

Pictures are decoded and encoded a batch at a time and vectors spooled to a temporary file, so
memory holds names only. N rows, E vector size.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.cli.entries import Entry, Kind
from ecliptic.cli.output import say
from ecliptic.engine import Clip

TEXTS = 4096  # tokenized and sorted by length together
SHOWN = 5  # remarks of a kind on stderr


@dataclass(frozen=True)
class Rejected:
    """An entry that has no vector."""

    index: int  # place among all entries, from 0
    source: str
    reason: str


@dataclass
class Embedding:
    """What has been embedded so far; a context manager that drops the temporary file."""

    embed: int  # E
    names: list[str] = field(default_factory=list)  # of the rows
    rejected: list[Rejected] = field(default_factory=list)
    seen: int = 0  # entries
    interrupted: bool = False

    def __post_init__(self) -> None:
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def add(self, vectors: Tensor, names: Iterable[str]) -> None:
        """Keep rows of (N, E) vectors and what they are."""
        self._spool.write(vectors.contiguous().numpy().tobytes())
        self.names += names

    def reject(self, index: int, source: str, reason: str) -> None:
        """Note an entry without vector."""
        self.rejected.append(Rejected(index, source, reason))

    def usable(self, entries: Iterable[Entry]) -> Iterator[tuple[int, Entry]]:
        """(index, entry) of every entry without a problem; the others are rejected."""
        for entry in entries:
            index, self.seen = self.seen, self.seen + 1
            if entry.problem:
                self.reject(index, entry.name, entry.problem)
            else:
                yield index, entry

    def vectors(self) -> NDArray[np.float32]:
        """(N, E), mapped from disk."""
        shape = (len(self.names), self.embed)
        self._spool.flush()
        if not self.names:
            return np.empty(shape, dtype=np.float32)
        return np.memmap(self._spool, dtype=np.float32, mode="r", shape=shape)


def embed_entries(
    clip: Clip,
    sets: Iterable[tuple[Kind, Iterable[Entry]]],
    batch_size: int | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Embedding:
    """Embed each set of entries in turn. Ctrl-C ends it early, with what is done so far."""
    done = Embedding(clip.card.embed)
    try:
        for kind, entries in sets:
            encode = _images if kind == "image" else _texts
            for count in encode(clip, entries, batch_size, done):
                advance(count)
    except KeyboardInterrupt:
        done.interrupted = True
    return done


def write_rejects(path: Path, rejected: Iterable[Rejected]) -> None:
    """One JSON object a line; an earlier file goes when nothing was rejected now."""
    lines = [json.dumps(asdict(reject)) + "\n" for reject in rejected]
    if lines:
        path.write_text("".join(lines), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _images(
    clip: Clip, entries: Iterable[Entry], batch_size: int | None, done: Embedding
) -> Iterator[int]:
    """Add the pictures' vectors to `done`; yields how many pictures were dealt with."""
    asked: list[tuple[int, str]] = []  # (index, name) of every picture given to the model

    def paths() -> Iterator[str]:
        for index, entry in done.usable(entries):
            asked.append((index, entry.name))
            yield entry.value

    for part in clip.stream_image(paths(), batch_size=batch_size, on_error="reject"):
        done.add(part.vectors, [asked[i][1] for i in part.kept])
        for reject in part.rejected:
            done.reject(*asked[reject.index], reject.reason)
        yield len(part.kept) + len(part.rejected)


def _texts(
    clip: Clip, entries: Iterable[Entry], batch_size: int | None, done: Embedding
) -> Iterator[int]:
    """Add the texts' vectors to `done`; yields how many texts were dealt with."""
    usable, cut = done.usable(entries), 0
    while some := list(islice(usable, TEXTS)):
        texts = [entry.value for _, entry in some]
        for row, words in clip.tokenizer.batch(texts, "truncate").truncated:
            cut += 1
            if cut <= SHOWN:
                say(f"warning: text {some[row][0]} is too long and loses {words[:80]!r}")
        vectors = clip.encode_text(texts, overflow="truncate", batch_size=batch_size)
        done.add(vectors, [entry.name for _, entry in some])
        yield len(some)
    if cut:
        say(f"warning: {cut} text(s) needed more than {clip.tokenizer.spec.context} tokens")
