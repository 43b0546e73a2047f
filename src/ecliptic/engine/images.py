"""Pictures to vectors: decoded ahead by threads, encoded in batches, yielded in order.

Reads a few pictures ahead of the batch it fills, so memory does not grow with the input. N rows,
E vector size.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ecliptic.engine.batches import Batcher, check_finite
from ecliptic.engine.cache import EmbeddingCache, key_of
from ecliptic.errors import ImageError
from ecliptic.inputs import Preprocess, Reject, decode_many, open_image, read_bytes
from ecliptic.inputs import describe as name_of

_WAITING = 16  # batches' worth of finished rows, cached or rejected, that wait for a full batch
_ORIENTATION = 0x0112  # EXIF 2.32, table 4


@dataclass(frozen=True)
class Encoded:
    """Vectors of a run of pictures."""

    vectors: Tensor  # (N, E) float32 on CPU
    kept: tuple[int, ...]  # which picture each row is, counted from the start of the input
    rejected: tuple[Reject, ...]  # the others, with reasons


@dataclass(frozen=True)
class _Planned:
    """One picture that was read from the input, looked up but not yet decoded."""

    source: Any
    key: bytes | None  # in the cache; None without one
    vector: Tensor | None  # (E,) if the cache had it


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
        ahead: deque[_Planned] = deque()

        def planned() -> Iterator[_Planned]:
            for item in self._plan(images, batcher.size):
                ahead.append(item)
                yield item

        done: dict[int, Tensor | Reject] = {}
        todo: dict[int, tuple[_Planned, Any]] = {}  # with their pixels
        on_error = "reject" if reject else "raise"
        with closing(decode_many(planned(), self._prepare, on_error=on_error)) as decoded:  # type: ignore[arg-type, type-var]
            for index, result in decoded:
                item = ahead.popleft()
                if isinstance(result, Reject):
                    done[index] = Reject(index, name_of(item.source), result.error)
                elif item.vector is not None:
                    done[index] = item.vector
                else:
                    todo[index] = item, result
                if len(todo) == batcher.size or len(done) == _WAITING * batcher.size:
                    yield self._flush(done, todo, batcher)
        if done or todo:
            yield self._flush(done, todo, batcher)

    def _plan(self, images: Iterable[Any], size: int) -> Iterator[_Planned]:
        """`images` with their cached vectors, looked up `size` at a time."""
        if self.cache is None:
            yield from (_Planned(source, None, None) for source in images)
            return
        exact, left = self.exact(), iter(images)
        while sources := list(islice(left, size)):
            contents = [content_of(source, self.preprocess) for source in sources]
            keys = [c and key_of(exact, "image", c) for c in contents]
            stored = self.cache.get(list({key for key in keys if key}))
            for source, key in zip(sources, keys, strict=True):
                found = stored.get(key) if key else None
                yield _Planned(source, key, None if found is None else torch.from_numpy(found))

    def _prepare(self, item: _Planned) -> Any:
        return self.preprocess(item.source) if item.vector is None else None

    def _flush(
        self,
        done: dict[int, Tensor | Reject],
        todo: dict[int, tuple[_Planned, Any]],
        batcher: Batcher,
    ) -> Encoded:
        """Encode what is left to do, and empty both."""
        if todo:
            done |= self._encode(todo, batcher)
        places = sorted(done)
        rows = {i: row for i in places if isinstance(row := done[i], Tensor)}
        gone = tuple(row for i in places if isinstance(row := done[i], Reject))
        done.clear()
        todo.clear()
        vectors = torch.stack(list(rows.values())) if rows else torch.empty(0, self.embed)
        return Encoded(vectors, tuple(rows), gone)

    def _encode(
        self, todo: dict[int, tuple[_Planned, Any]], batcher: Batcher
    ) -> dict[int, Tensor | Reject]:
        items = [item for item, _ in todo.values()]
        pixels = torch.from_numpy(np.stack([pixels for _, pixels in todo.values()]))
        vectors = batcher.run(self.encode, pixels).float().cpu()
        check_finite(vectors, lambda i: name_of(items[i].source))
        if self.cache is not None:
            rows = zip(items, vectors, strict=True)
            self.cache.put({item.key: np.asarray(v) for item, v in rows if item.key})
        return dict(zip(todo, vectors, strict=True))


def content_of(source: Any, preprocess: Preprocess) -> bytes | None:
    """SHA-256 of all of a picture that decides its pixels; None if it cannot be read (decoding
    will say why) or only once."""
    try:
        if isinstance(source, Image.Image):
            head, body = _of_image(open_image(source, preprocess.limits))
        elif isinstance(source, np.ndarray | Tensor):
            head, body = _of_values(source)
        elif hasattr(source, "read"):
            return None  # reading it here would leave nothing for the decoder
        else:
            head, body = "", read_bytes(source, preprocess.limits)
    except ImageError:
        return None
    return hashlib.sha256(head.encode() + b"\0" + body).digest()


def _of_image(image: Image.Image) -> tuple[str, bytes]:
    """Values, and what `robust` looks at beside them: palette, transparency, profile, rotation."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # as in preprocessing: damaged metadata says nothing
        orientation = None
    about = [image.info.get(name) for name in ("transparency", "icc_profile")]
    palette = image.getpalette(None) if image.mode in ("P", "PA") else None
    return repr([image.mode, image.size, palette, orientation, about]), image.tobytes()


def _of_values(values: Any) -> tuple[str, bytes]:
    """Arrays and tensors differ: (H, W, C) and (C, H, W)."""
    kind, dtype, shape = type(values).__name__, values.dtype, tuple(values.shape)
    if isinstance(values, Tensor):  # NumPy has no bfloat16, so bytes
        values = values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return f"{kind}{dtype}{shape}", np.ascontiguousarray(values).tobytes()
