"""Synthetic vectors with the properties of CLIP's that matter for search.

Images lie in nested clusters of a power-law spectrum, around a large common mean with one rogue
dimension (-0.7, as in the two real ViT-B/32 vectors at hand). A text shares a part of its content
with one picture that is not in the collection, and lies in another cone, orthogonal to all content.
Texts are the hard queries: their nearest pictures are hardly nearer than thousands of others.
N rows, E vector size, Q queries.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 512
_COARSE, _FINE = 64, 4000  # clusters
_ROGUE = 100  # the dimension that is far from 0 in every image
_AT_ONCE = 1 << 16
Array = NDArray[np.float32]


@dataclass(frozen=True)
class World:
    """Clusters and cones that images and texts are drawn from."""

    fine: Array  # (clusters, E) centres
    spectrum: Array  # (E,)
    image_mean: Array  # (E,)
    text_mean: Array  # (E,)


def make_world(seed: int = 0) -> World:
    """The clusters of a seed."""
    random = np.random.default_rng(seed)
    spectrum = (np.arange(1, SIZE + 1) ** -0.45).astype(np.float32)
    random.shuffle(spectrum)
    coarse = random.standard_normal((_COARSE, SIZE), dtype=np.float32) * spectrum
    near = random.standard_normal((_FINE, SIZE), dtype=np.float32) * spectrum
    fine = 0.8 * coarse[random.integers(0, _COARSE, _FINE)] + 0.6 * near
    image_mean = random.standard_normal(SIZE).astype(np.float32) * 0.015
    image_mean[_ROGUE] = -0.7
    text_mean = random.standard_normal(SIZE).astype(np.float32)
    text_mean -= image_mean * (text_mean @ image_mean) / (image_mean @ image_mean)
    return World(fine, spectrum, image_mean, _unit(text_mean[None])[0] * np.float32(0.8))


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _content(world: World, rows: int, random: np.random.Generator) -> Array:
    own = random.standard_normal((rows, SIZE), dtype=np.float32) * world.spectrum
    return _unit(world.fine[random.integers(0, len(world.fine), rows)] + 0.7 * own)


def images(world: World, rows: int, seed: int = 1) -> Iterator[Array]:
    """(n, E) unit vectors of images, N = `rows` in all, in blocks."""
    random = np.random.default_rng(seed)
    for start in range(0, rows, _AT_ONCE):
        content = _content(world, min(_AT_ONCE, rows - start), random)
        yield _unit(0.7 * content + world.image_mean)


def queries(world: World, count: int, seed: int = 2) -> tuple[Array, Array]:
    """(Q, E) of texts and of images that are not among those of `images`."""
    random = np.random.default_rng(seed)
    content = _content(world, count, random)
    other = _unit(random.standard_normal((count, SIZE), dtype=np.float32))  # of no cluster
    texts = _unit(0.45 * _unit(0.35 * content + 0.94 * other) + world.text_mean)
    return texts, _unit(0.7 * content + world.image_mean)
