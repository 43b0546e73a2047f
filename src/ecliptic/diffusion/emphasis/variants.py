"""The variants of a prompt that its weights need, and the share of each in the result.

The result is `g(z) + sum of share (g(z') - g(z))` over the variants z'. Here z is the unchanged
prompt, and g moves vectors away from the empty prompt or does nothing. A variant has only the
chunks that differ from the prompt. All of this is planned before anything is encoded.

Sources: ComfyUI comfy/sd1_clip.py; compel 2.5.1 embeddings_provider.py
`get_embeddings_for_weighted_prompt_fragments` with its default DownweightMode.MASK; BlenderNeko's
node ComfyUI_ADV_CLIP_emb, as read in its adv_encode.py (`down_weight`, `from_masked`,
`scale_to_norm`, `advanced_encode_from_tokens`; its `w_max` is 1 here, the node's default).
C chunks, T tokens, D width.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest

import torch
from torch import Tensor

from ecliptic.diffusion.tokens.chunks import NO_WORD, Chunks

LIGHTEST = 1e-5  # compel's; at 0 the tangent below is infinite
REPLACEMENT = 266  # the id that replaces a word: "+" for CLIP, although ADV's source says comma


@dataclass(frozen=True, eq=False)
class Variant:
    """Some chunks of a prompt in another form."""

    numbers: Tensor  # (c,) their numbers among the chunks of the prompt
    chunks: Chunks  # c of them
    share: Tensor  # (c, T, 1) share of the difference to add
    away: Tensor | None = None  # (c, T) its own distance from the empty prompt; None: the prompt's


@dataclass
class _Fragment:
    """Where a segment lies among all places of all chunks."""

    segment: int
    first: int
    last: int
    weight: float  # of its first token
    light: bool = False  # whether a token weighs less than 1


def comfyui(chunks: Chunks) -> tuple[Tensor, list[Variant]]:
    """Move each token away from the empty prompt by its weight."""
    return chunks.weights, []


def compel(chunks: Chunks) -> tuple[Tensor, list[Variant]]:
    """Mix in encodings without the light fragments: `(E + sum t E') / (1 + sum t)`.

    E has every token at `(z - e) w + e`. E' is the same for an encoding whose attention cannot see
    one fragment of weight below 1. t is 0 at weight 1, 1 at weight 0.5, and 63662 at 0 and below.

    One difference to compel: where truncation cuts a light fragment in two, compel also hides the
    end of text in the last place, which changes the vector of that place.
    """
    light = [fragment for fragment in _find_fragments(chunks) if fragment.light]
    pairs = zip(light, _shares(light), strict=True)
    return chunks.weights, [_hide(chunks, fragment, share) for fragment, share in pairs]


def compel_remove(chunks: Chunks, without: Callable[[int], Chunks]) -> tuple[Tensor, list[Variant]]:
    """As `compel`, but E' is of the prompt without the fragment: later words move up.

    Words that truncation dropped can move into the context. Where the prompt becomes chunks
    shorter, empty chunks take their place; compel stops with an error there.

    Args:
        chunks: of the prompt.
        without: lays out the prompt without the segment of this number, in as many chunks.

    Source: compel 2.5.1 embeddings_provider.py, `DownweightMode.REMOVE`.
    """
    light = [fragment for fragment in _find_fragments(chunks) if fragment.light]
    numbers = torch.arange(len(chunks))
    variants = []
    for fragment, share in zip(light, _shares(light), strict=True):
        found = without(fragment.segment)
        shares = torch.full((*found.ids.shape, 1), share)
        variants.append(Variant(numbers, replace(found, used=None), shares, found.weights))
    return chunks.weights, variants


def _shares(light: Sequence[_Fragment]) -> list[float]:
    """The share of each light fragment's encoding in the result: `t / (1 + sum t)`."""
    pulls = [math.tan((1 - max(one.weight, LIGHTEST)) * math.pi / 2) for one in light]
    whole = 1 + sum(pulls)
    return [pull / whole for pull in pulls]


def adv_compel(chunks: Chunks) -> tuple[Tensor, list[Variant]]:
    """Apply ADV's "compel": heavy tokens as in ComfyUI, light tokens replaced.

    compel itself differs: it hides light words from attention, one fragment at a time.
    """
    return chunks.weights.clamp(min=1), list(_mix_out(chunks))


def down_weight(chunks: Chunks) -> tuple[None, list[Variant]]:
    """Divide the weights by the largest, so that none is above 1; then replace light tokens."""
    top = chunks.weights.max().clamp(min=1)  # start and end have 1
    lighter = torch.where(chunks.words == NO_WORD, chunks.weights, chunks.weights / top)
    return None, list(_mix_out(replace(chunks, weights=lighter)))


def comfy_plus_plus(chunks: Chunks) -> tuple[None, list[Variant]]:
    """Replace light words, and move heavy words away from their replacements.

    `z_j + (w_j - 1)(z_j - z'_j)` for every token j of a word with a weight above 1, where z' is
    the prompt with only this word replaced, not the light words.
    """
    variants = list(_mix_out(chunks))
    heavy = (chunks.weights > 1) & (chunks.words != NO_WORD)
    for word in sorted(set(chunks.words[heavy].tolist())):
        places = chunks.words == word  # (C, T)
        more = (chunks.weights - 1) * places
        variants += _replace_words(chunks, places, -more.unsqueeze(-1))
    return None, variants


def _find_fragments(chunks: Chunks) -> Iterable[_Fragment]:
    """The segments of a prompt in order, in one pass over its tokens."""
    found: dict[int, _Fragment] = {}
    rows = zip(chunks.segments.flatten().tolist(), chunks.weights.flatten().tolist(), strict=True)
    for place, (segment, weight) in enumerate(rows):
        if segment != NO_WORD:
            fragment = found.setdefault(segment, _Fragment(segment, place, place, weight))
            fragment.last = place
            fragment.light |= weight < 1
    return (found[segment] for segment in sorted(found))


def _hide(chunks: Chunks, fragment: _Fragment, share: float) -> Variant:
    """The chunks of a fragment, hidden with the end and padding that cut it in two."""
    T = chunks.ids.shape[1]
    numbers = torch.arange(fragment.first // T, fragment.last // T + 1)
    found = chunks.select(numbers.tolist())
    hidden = torch.zeros_like(found.ids, dtype=torch.bool)
    before = int(numbers[0]) * T
    hidden.view(-1)[fragment.first - before : fragment.last + 1 - before] = True
    hidden[:, 0] = hidden[:, -1] = False  # each chunk keeps its first and last place
    mask = ~hidden if found.mask is None else ~hidden & found.mask
    return Variant(numbers, replace(found, mask=mask), torch.full((*found.ids.shape, 1), share))


def _mix_out(chunks: Chunks) -> Iterator[Variant]:
    """Yield variants with more and more light tokens replaced, lightest first.

    With the different weights below 1 in order, w1 < w2 < ... < wk, the result is `w1 z + (w2 - w1)
    z1 + ... + (1 - wk) zk`, where zi has all tokens up to weight wi replaced. At weight 0, only the
    replacement is left. Each chunk has its own levels: between them, it would stay the same.
    """
    T = chunks.ids.shape[1]
    rows = [
        [*sorted({weight for weight in row if weight < 1}), 1.0] for row in chunks.weights.tolist()
    ]
    steps = [list(pairwise(levels)) for levels in rows]
    for steps_now in zip_longest(*steps, fillvalue=(-math.inf, -math.inf)):
        level = torch.tensor([start for start, _ in steps_now])[:, None]  # (C, 1)
        share = torch.tensor([end - start for start, end in steps_now])  # (C,), NaN if not touched
        places = chunks.weights <= level
        yield from _replace_words(chunks, places, share[:, None, None].expand(-1, T, 1))


def _replace_words(chunks: Chunks, places: Tensor, share: Tensor) -> Iterator[Variant]:
    """Yield the chunks with `REPLACEMENT` at `places` (C, T), also for vectors of inversions."""
    touched = places.any(dim=-1)
    numbers = touched.nonzero()[:, 0]
    if not len(numbers):
        return
    found, inside = chunks.select(numbers.tolist()), places[touched]
    left = {at: vector for at, vector in found.vectors.items() if not bool(inside[at])}
    ids = torch.where(inside, torch.full_like(found.ids, REPLACEMENT), found.ids)
    yield Variant(numbers, replace(found, ids=ids, vectors=left), share[touched])
