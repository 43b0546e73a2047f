"""Pictures to vectors: decoded ahead by threads, encoded in batches, yielded in order.

Works on slices of the input, so memory does not grow with it. N rows, E vector size.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ecliptic.engine.batches import Batcher, check_finite, chunks
from ecliptic.engine.cache import EmbeddingCache, key_of
from ecliptic.errors import ImageError
from ecliptic.inputs import Preprocess, Reject, decode_many, read_bytes
from ecliptic.inputs import describe as name_of

_SLICE = 16  # batches that are planned, decoded and encoded together


@dataclass(frozen=True)
class Encoded:
    """Vectors of a run of pictures."""

    vectors: Tensor  # (N, E) float32 on CPU
    kept: tuple[int, ...]  # which picture each row is, counted from the start of the input
    rejected: tuple[Reject, ...]  # the others, with reasons


@dataclass(frozen=True)
class ImageEncoder:
    """What it takes to turn pictures into vectors."""

    preprocess: Preprocess
    encode: Callable[[Tensor], Tensor]  # (B, 3, S, S) -> (B, E)
    embed: int
    cache: EmbeddingCache | None
    exact: Callable[[], str]  # the model's fingerprint, asked for only with a cache

    def stream(self, images: Iterable[Any], batcher: Batcher, *, reject: bool) -> Iterator[Encoded]:
        """Raw vectors of `images`, a batch at a time and in order."""
        source, start = iter(images), 0
        while items := list(islice(source, _SLICE * batcher.size)):
            yield from self._slice(items, start, batcher, reject=reject)
            start += len(items)

    def _slice(
        self, items: list[Any], start: int, batcher: Batcher, *, reject: bool
    ) -> Iterator[Encoded]:
        keys, found = self._look_up(items)
        rejected: dict[int, Reject] = {}
        todo = [i for i in range(len(items)) if i not in found]
        decoded = decode_many(
            (items[i] for i in todo), self.preprocess, on_error="reject" if reject else "raise"
        )
        pixels: dict[int, Any] = {}
        given = 0
        for place, result in decoded:
            index = todo[place]
            if isinstance(result, Reject):
                rejected[index] = Reject(start + index, result.source, result.error)
            else:
                pixels[index] = result
            if len(pixels) == batcher.size:
                self._encode(items, pixels, keys, found, batcher)
                yield _collect(range(given, index + 1), start, found, rejected, self.embed)
                given = index + 1
                pixels.clear()
        if pixels:
            self._encode(items, pixels, keys, found, batcher)
        for some in chunks(range(given, len(items)), batcher.size):
            yield _collect(some, start, found, rejected, self.embed)

    def _encode(
        self,
        items: list[Any],
        pixels: dict[int, Any],
        keys: dict[int, bytes],
        found: dict[int, Tensor],
        batcher: Batcher,
    ) -> None:
        order = list(pixels)
        vectors = batcher.run(self.encode, torch.from_numpy(np.stack(list(pixels.values()))))
        vectors = vectors.float().cpu()
        check_finite(vectors, lambda i: name_of(items[order[i]]))
        found |= dict(zip(order, vectors, strict=True))
        if self.cache is not None:
            self.cache.put({keys[i]: np.asarray(found[i]) for i in order if i in keys})

    def _look_up(self, items: list[Any]) -> tuple[dict[int, bytes], dict[int, Tensor]]:
        """Cache keys by place, and the vectors that are there; unreadable items have no key."""
        if self.cache is None:
            return {}, {}
        exact, keys = self.exact(), {}
        for i, item in enumerate(items):
            content = content_of(item, self.preprocess)
            if content is not None:
                keys[i] = key_of(exact, "image", content)
        stored = self.cache.get(list(set(keys.values())))
        found = {i: torch.from_numpy(stored[key]) for i, key in keys.items() if key in stored}
        return keys, found


def content_of(source: Any, preprocess: Preprocess) -> bytes | None:
    """SHA-256 of a picture's bytes or values; None if it cannot be read (decoding will say why)."""
    if isinstance(source, Image.Image):
        head, body = f"{source.mode}{source.size}{source.getexif().get(0x0112)}", source.tobytes()
    elif isinstance(source, np.ndarray | Tensor):
        values = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
        kind = type(source).__name__
        head, body = f"{kind}{values.dtype}{values.shape}", np.ascontiguousarray(values).tobytes()
    elif hasattr(source, "read"):
        return None  # reading it here would leave nothing for the decoder
    else:
        try:
            head, body = "", read_bytes(source, preprocess.limits)
        except ImageError:
            return None
    return hashlib.sha256(head.encode() + b"\0" + body).digest()


def _collect(
    places: Iterable[int],
    start: int,
    found: dict[int, Tensor],
    rejected: dict[int, Reject],
    embed: int,
) -> Encoded:
    places = list(places)
    kept = [i for i in places if i in found]
    vectors = torch.stack([found.pop(i) for i in kept]) if kept else torch.empty(0, embed)
    gone = tuple(rejected[i] for i in places if i in rejected)
    return Encoded(vectors, tuple(start + i for i in kept), gone)
