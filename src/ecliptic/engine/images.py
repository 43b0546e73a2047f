"""Turns images into vectors: threads decode ahead, batches are encoded, rows come out in order.

Threads decode the next batch while the tower computes one, so memory holds two batches of pixels
and does not grow with the input. Equal pixels in a batch are computed once. N rows, E vector size.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ecliptic.checks import rows_not_finite
from ecliptic.engine.batches import Batcher, check_rows, numerical_error
from ecliptic.engine.cache import EmbeddingCache, key_of
from ecliptic.errors import EclipticError
from ecliptic.inputs import (
    Preprocess,
    Reject,
    available_cores,
    decode_many,
    describe as name_of,
    open_image,
    orientation,
    read_bytes,
)

IMAGE_BATCH = 32  # images at a time, by default
_SAMPLED = 16  # of so many rows and columns, one is compared first
_WAITING = 16  # batches of rows from the cache, and of rejects, that may wait for a full batch
RowsByPlace = dict[int, Tensor | Reject]  # by place in the input


@dataclass(frozen=True)
class Encoded:
    """Vectors of consecutive images."""

    vectors: Tensor  # (N, E) float32 on CPU
    kept: tuple[int, ...]  # which image each row is, counted from the start of the input
    rejected: tuple[Reject, ...]  # the others, with reasons


@dataclass(frozen=True)
class _Ready:
    """One image after the decoding threads: its pixels, or its vector if the cache had it."""

    name: str  # for people
    pixels: Any = None  # (3, S, S) float32
    key: bytes | None = None  # in the cache; None without one
    vector: Tensor | None = None  # (E,)


@dataclass(frozen=True)
class _Running:
    """A batch that was given to the tower, and what was ready beside it."""

    done: RowsByPlace  # rows of the cache, and rejects
    todo: dict[int, _Ready]
    rows: Tensor | None  # of the images that differ, on the device of the tower
    copies: list[int]  # the row of each image of `todo`

    @property
    def waits(self) -> bool:
        """Whether the rows are still being computed: on a GPU, not on a CPU."""
        return self.rows is not None and self.rows.device.type != "cpu"


@dataclass(frozen=True)
class ImageEncoder:
    """Turns images into vectors, or into another output of the image tower."""

    preprocess: Preprocess
    encode: Callable[[Tensor], Tensor]  # (B, 3, S, S) -> (B, E), or (B, T, D) of a hidden layer
    shape: tuple[int, ...]  # of one row of the output of `encode`
    cache: EmbeddingCache | None = None
    exact: Callable[[], str] = lambda: ""  # the model's fingerprint, called only with a cache

    def stream(
        self,
        images: Iterable[Any],
        batch_size: int = IMAGE_BATCH,
        *,
        normalize: bool = False,
        reject: bool = False,
        prepare: Callable[[Any], tuple[str, Any]] | None = None,
        held: Callable[[Any], int] | None = None,
    ) -> Iterator[Encoded]:
        """Rows of `images`, a batch at a time and in order, float32 on CPU.

        Args:
            images: read lazily, a batch ahead of the one that is computed.
            batch_size: images at a time; halved when memory runs out.
            normalize: make each row unit length.
            reject: report an image that cannot be used instead of raising its error.
            prepare: turns an item of `images` into its name and its (3, S, S) float32 pixels, in
                a thread; for items that are no images themselves. The cache is not used then.
            held: bytes that an item keeps until then; few are read ahead where these are many.
        """
        batcher = Batcher(batch_size)
        decoded = decode_many(
            images,
            self._choose(prepare),
            ahead=4 * available_cores() + batcher.size,
            on_error="reject" if reject else "raise",
            held=held,
        )
        finish = partial(self._finish, normalize=normalize, reject=reject)
        running: _Running | None = None  # on a GPU, which computes while the next batch is made
        try:
            with closing(decoded):  # type: ignore[type-var]
                for done, todo in _batches(decoded, batcher):
                    batch = self._start(done, todo, batcher)
                    if running is not None:
                        yield finish(running)
                    running = batch
                    if not batch.waits:
                        yield finish(batch)
                        running = None
        except EclipticError:
            if running is not None and running.waits:
                self._finish(running, normalize=normalize, reject=True)  # for the cache
            raise
        if running is not None:
            yield finish(running)

    def _choose(self, prepare: Callable[[Any], tuple[str, Any]] | None) -> Callable[[Any], _Ready]:
        if prepare is not None:
            return lambda item: _Ready(*prepare(item))
        if self.cache is not None:
            return partial(self._look_up, self.cache, self.exact())
        return self._prepare

    def _prepare(self, source: Any) -> _Ready:
        return _Ready(name_of(source), pixels=self.preprocess(source))

    def _look_up(self, cache: EmbeddingCache, exact: str, source: Any) -> _Ready:
        """Find the vector in the cache, or decode the same bytes that the key was made of."""
        name = name_of(source)
        source, content = content_of(source, self.preprocess)
        key = key_of(exact, "image", content)
        found = cache.get([key], self.shape[-1]).get(key)
        if found is not None:
            return _Ready(name, key=key, vector=torch.from_numpy(found))
        return _Ready(name, self.preprocess(source, name=name), key)

    def _start(self, done: RowsByPlace, todo: dict[int, _Ready], batcher: Batcher) -> _Running:
        """Give the images in `todo` to the tower; a GPU goes on computing afterwards."""
        if not todo:
            return _Running(done, todo, None, [])
        items = list(todo.values())
        first, copies = find_copies([item.pixels for item in items])
        pixels = torch.from_numpy(np.stack([items[place].pixels for place in first]))
        return _Running(done, todo, batcher.run(self.encode, pixels), copies)

    def _finish(self, running: _Running, *, normalize: bool, reject: bool) -> Encoded:
        """Wait for the tower, and collect the rows of its images and those that were ready."""
        done, todo = running.done, running.todo
        if running.rows is not None:
            items = list(todo.values())
            rows = running.rows.float().cpu()[running.copies]
            if not reject:
                check_rows(rows, lambda i: items[i].name)
            done |= zip(todo, rows, strict=True)
            for i in rows_not_finite(rows):
                place, name = list(todo)[i], items[i].name
                done[place] = Reject(place, name, numerical_error(name))
        if self.cache is not None:
            keys = {item.key: done[place] for place, item in todo.items()}
            self.cache.put({k: r.numpy() for k, r in keys.items() if k and isinstance(r, Tensor)})
        return self._collect(done, normalize=normalize)

    def _collect(self, done: RowsByPlace, *, normalize: bool) -> Encoded:
        """Take the rows out of `done`, in order."""
        places = sorted(done)
        rows = {i: row for i in places if isinstance(row := done[i], Tensor)}
        rejected = tuple(row for i in places if isinstance(row := done[i], Reject))
        vectors = torch.stack(list(rows.values())) if rows else torch.empty(0, *self.shape)
        vectors = F.normalize(vectors, dim=-1) if normalize else vectors
        return Encoded(vectors, tuple(rows), rejected)


def _batches(
    decoded: Iterable[tuple[int, _Ready | Reject]], batcher: Batcher
) -> Iterator[tuple[RowsByPlace, dict[int, _Ready]]]:
    """What is ready, and the images for the tower, as soon as these are enough for a batch."""
    done: RowsByPlace = {}
    todo: dict[int, _Ready] = {}
    for index, item in decoded:
        if isinstance(item, Reject):
            done[index] = item
        elif item.vector is not None:
            done[index] = item.vector
        else:
            todo[index] = item
        if len(todo) == batcher.size or len(done) == _WAITING * batcher.size:
            yield done, todo
            done, todo = {}, {}
    if done or todo:
        yield done, todo


def find_copies(pixels: Sequence[NDArray[np.float32]]) -> tuple[list[int], list[int]]:
    """The places of the images that differ, and for each image its place among these.

    A few values of each image are compared first, and a SHA-256 of all only where these are equal.
    So images that differ, as photographs do, cost some microseconds and not a pass over the pixels.
    """
    samples = [image[:, ::_SAMPLED, ::_SAMPLED].tobytes() for image in pixels]
    common = {sample for sample, count in Counter(samples).items() if count > 1}
    keys: dict[bytes, int] = {}
    first: list[int] = []
    copies: list[int] = []
    for place, sample in enumerate(samples):
        key = sample
        if sample in common:
            key = hashlib.sha256(pixels[place].tobytes()).digest() + b"whole"
        if key not in keys:
            keys[key] = len(first)
            first.append(place)
        copies.append(keys[key])
    return first, copies


def content_of(source: Any, preprocess: Preprocess) -> tuple[Any, bytes]:
    """The image, read if it was a file, and the SHA-256 of everything that decides its pixels.

    The limits count too: an image that passed other limits is not found under these.

    Raises:
        ImageError: it cannot be read, or is beyond the limits.
    """
    limits = preprocess.limits
    if isinstance(source, Image.Image):
        source = open_image(source, limits)
        head, body = _dump_image(source)
    elif isinstance(source, np.ndarray | Tensor):
        head, body = _dump_values(source)
    else:
        source = body = read_bytes(source, limits)
        head = ""
    return source, hashlib.sha256(f"{limits}{head}".encode() + b"\0" + body).digest()


def _dump_image(image: Image.Image) -> tuple[str, bytes]:
    """Pixel values, and what `robust` also uses: palette, transparency, profile, rotation."""
    about = [image.info.get(name) for name in ("transparency", "icc_profile")]
    palette = image.getpalette(None) if image.mode in ("P", "PA") else None
    return repr([image.mode, image.size, palette, orientation(image), about]), image.tobytes()


def _dump_values(values: Any) -> tuple[str, bytes]:
    """Arrays are (H, W, C) and tensors (C, H, W), so the type is a part."""
    kind, dtype, shape = type(values).__name__, values.dtype, tuple(values.shape)
    if isinstance(values, Tensor):  # NumPy has no bfloat16, so bytes
        values = values.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return f"{kind}{dtype}{shape}", np.ascontiguousarray(values).tobytes()
