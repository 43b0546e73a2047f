"""Chunks with weights, and a tiny encoder for them, for tests of emphasis."""

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from ecliptic.diffusion.emphasis.weighting import WeightedVectors, plan
from ecliptic.diffusion.options import Emphasis, EmphasisName, Normalization
from ecliptic.diffusion.tokens.chunks import NO_WORD, Chunks
from ecliptic.model import TextTower
from tests import tiny

START, END = 49406, 49407
NAMES: tuple[EmphasisName, ...] = (
    "original",
    "no-norm",
    "ignore",
    "lpw",
    "comfyui",
    "compel",
    "compel-remove",
    "adv-compel",
    "comfy++",
    "down-weight",
)


def weigh(*chunks: Sequence[float], context: int = 16, length: int = 1) -> Chunks:
    """A chunk per argument: a word of `length` tokens, one segment, for every weight in it."""
    shape = (len(chunks), context)
    ids, weights = torch.full(shape, END), torch.ones(shape)
    words = torch.full(shape, NO_WORD)
    word = 0
    for chunk, its_weights in enumerate(chunks):
        ids[chunk, 0] = START
        for number, weight in enumerate(its_weights):
            places = slice(1 + number * length, 1 + (number + 1) * length)
            ids[chunk, places] = torch.arange(length) + 1000 + 10 * word
            weights[chunk, places], words[chunk, places] = weight, word
            word += 1
    return Chunks(ids, weights, words, words.clone())


@cache
def _tower() -> TextTower:
    return tiny.model(tiny.checkpoint("unprojected")).text_tower


@torch.no_grad()
def encode(given: Chunks) -> Tensor:
    """(C, T, D) of the tiny text tower, with attention masks."""
    sequence = _tower().outputs(given.ids, pooled=False, mask=given.mask).sequence
    assert sequence is not None
    return sequence


def without(given: Chunks) -> Callable[[int], Chunks]:
    """Lays out each chunk without one segment; its later tokens move up."""

    def rest(segment: int) -> Chunks:
        found = weigh(*[[]] * len(given), context=given.ids.shape[1])
        for chunk, row in enumerate(given.segments != segment):
            count = int(row.sum())
            for name in ("ids", "weights", "words", "segments"):
                getattr(found, name)[chunk, :count] = getattr(given, name)[chunk, row]
        return found

    return rest


def emphasise(
    given: Chunks,
    name: EmphasisName,
    z: Tensor | None = None,
    encode: Callable[[Chunks], Tensor] = encode,
    normalization: Normalization = "none",
) -> Tensor:
    """The vectors of `given` under the emphasis `name`."""
    z = encode(given) if z is None else z
    found = plan(given, Emphasis(name, normalization), without(given))
    if found is None:
        return z
    empty = encode(weigh([], context=given.ids.shape[1])) if found.needs_empty else None
    result = WeightedVectors(found, z, empty)
    for variant in found.variants:
        result.add(variant, encode(variant.chunks))
    return result.result()
