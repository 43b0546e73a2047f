"""Which other forms of a prompt a weight asks for, and how far each pulls the result.

A result is `g(z) + sum of share (g(z') - g(z))` over the variants z': z is the prompt as it is, g a
step away from the empty prompt or nothing, and a variant has only the chunks in which it differs
from the prompt. Everything here is known before anything is encoded.

Sources: ComfyUI comfy/sd1_clip.py; compel 2.5.1 embeddings_provider.py
`get_embeddings_for_weighted_prompt_fragments` with its default DownweightMode.MASK; BlenderNeko's
node ComfyUI_ADV_CLIP_emb, as read in its adv_encode.py (`down_weight`, `from_masked`,
`scale_to_norm`, `advanced_encode_from_tokens`; its `w_max` is 1 here, the node's default).
C chunks, T tokens, D width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ecliptic.diffusion.tokens.chunks import NO_WORD, Chunks

LIGHTEST = 1e-5  # compel's; at 0 the tangent below is infinite
REPLACEMENT = 266  # the id put for a word; "+" in CLIP's vocabulary, though ADV's source says comma


@dataclass(frozen=True, eq=False)
class Variant:
    """Some chunks of a prompt in another form."""

    numbers: Tensor  # (c,) which chunks of the prompt they stand for
    chunks: Chunks  # c of them
    share: Tensor  # (c, T, 1) of the difference that it adds


def comfyui(chunks: Chunks) -> tuple[Tensor, list[Variant]]:
    """Each token as far from the empty prompt as its weight says."""
    return chunks.weights, []


def compel(chunks: Chunks) -> tuple[Tensor, list[Variant]]:
    """`(E + sum t E') / (1 + sum t)`, over the fragments lighter than 1.

    E has every token at `(z - e) w + e`; E' is the same of an encoding whose attention cannot see
    the fragment; t grows from 0 at weight 1 over 1 at weight 0.5 to 63662 at 0 and below.

    One thing is not as there: where truncation cuts a light fragment in two, compel also hides the
    end of text in the last place, which moves the vector of that place.
    """
    light = list(_light_fragments(chunks))
    pulls = [math.tan((1 - max(weight, LIGHTEST)) * math.pi / 2) for _, weight in light]
    whole = 1 + sum(pulls)
    variants = []
    for (segment, _), pull in zip(light, pulls, strict=True):
        seen = _all_but(chunks, segment)
        touched = (~seen).any(dim=-1)
        numbers = touched.nonzero()[:, 0]
        found = chunks.only(numbers.tolist())
        mask = seen[touched] if found.mask is None else seen[touched] & found.mask
        hidden = replace(found, mask=mask)
        variants.append(Variant(numbers, hidden, _shares(hidden, pull / whole)))
    return chunks.weights, variants


def adv_compel(chunks: Chunks) -> tuple[Tensor, list[Variant]]:
    """ADV's "compel": heavy tokens as in ComfyUI, light ones mixed out by replacement.

    Not what compel itself does, which hides light words from attention one fragment at a time.
    """
    return chunks.weights.clamp(min=1), list(_mixed_out(chunks))


def down_weight(chunks: Chunks) -> tuple[None, list[Variant]]:
    """Weights divided by the largest, so that heavy means all else lighter; then mixed out."""
    top = chunks.weights.max().clamp(min=1)  # start and end have 1
    lighter = torch.where(chunks.words == NO_WORD, chunks.weights, chunks.weights / top)
    return None, list(_mixed_out(replace(chunks, weights=lighter)))


def comfy_plus_plus(chunks: Chunks) -> tuple[None, list[Variant]]:
    """Light words mixed out; heavy ones away from what they are when the word is replaced.

    `z_j + (w_j - 1)(z_j - z'_j)` for every token j of a word with a weight above 1, where z' is
    the prompt with this one word replaced, and with light words put back.
    """
    variants = list(_mixed_out(chunks))
    heavy = (chunks.weights > 1) & (chunks.words != NO_WORD)
    for word in sorted(set(chunks.words[heavy].tolist())):
        places = chunks.words == word  # (C, T)
        more = (chunks.weights - 1) * places
        variants += _replaced(chunks, places, -more.unsqueeze(-1))
    return None, variants


def _light_fragments(chunks: Chunks) -> Iterator[tuple[int, float]]:
    """(number, weight) of every segment under a weight below 1."""
    light = (chunks.weights < 1) & (chunks.segments != NO_WORD)
    for segment in sorted(set(chunks.segments[light].tolist())):
        yield segment, float(chunks.weights[chunks.segments == segment][0])


def _all_but(chunks: Chunks, segment: int) -> Tensor:
    """(C, T) bool: everything but the segment, with the end and padding that split it in two."""
    found = (chunks.segments == segment).flatten().nonzero()[:, 0]  # one behind the other
    hidden = torch.zeros_like(chunks.ids, dtype=torch.bool)
    hidden.view(-1)[int(found[0]) : int(found[-1]) + 1] = True
    hidden[:, 0] = hidden[:, -1] = False  # each chunk keeps its outer marks
    return ~hidden


def _mixed_out(chunks: Chunks) -> Iterator[Variant]:
    """Forms of which ever more of the light tokens are replaced, lightest first.

    With the different weights below 1 in order, w1 < w2 < ... < wk, the mean is `w1 z + (w2 - w1)
    z1 + ... + (1 - wk) zk`, where zi has all tokens up to wi replaced. So a weight of 0 is the
    replacement.
    """
    levels = sorted(set(chunks.weights[chunks.weights < 1].tolist()))
    for level, following in pairwise([*levels, 1.0]):
        share = torch.full((*chunks.ids.shape, 1), following - level)
        yield from _replaced(chunks, chunks.weights <= level, share)


def _replaced(chunks: Chunks, places: Tensor, share: Tensor) -> Iterator[Variant]:
    """The chunks with `REPLACEMENT` at `places` (C, T), also for vectors of inversions."""
    touched = places.any(dim=-1)
    numbers = touched.nonzero()[:, 0]
    if not len(numbers):
        return
    found, inside = chunks.only(numbers.tolist()), places[touched]
    left = {at: vector for at, vector in found.vectors.items() if not bool(inside[at])}
    ids = torch.where(inside, torch.full_like(found.ids, REPLACEMENT), found.ids)
    yield Variant(numbers, replace(found, ids=ids, vectors=left), share[touched])


def _shares(chunks: Chunks, share: float) -> Tensor:
    return torch.full((*chunks.ids.shape, 1), share)
