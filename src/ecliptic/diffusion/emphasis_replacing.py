"""Weights by encoding again with some words replaced: ADV_CLIP_emb's ways of ComfyUI.

BlenderNeko's node ComfyUI_ADV_CLIP_emb, as read in its adv_encode.py (`down_weight`,
`from_masked`, `scale_to_norm`, `advanced_encode_from_tokens`). Its "comfy" is our "comfyui" and
its "A1111" our "lpw": one ratio of means over all chunks. Its `w_max` is 1 here, the node's
default. C chunks, T tokens, D width.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ecliptic.diffusion.emphasis_source import Source, away_from_empty
from ecliptic.diffusion.rows import NO_WORD, Rows

REPLACEMENT = 266  # the id put for a word; "+" in CLIP's vocabulary, though its source says comma


def adv_compel(rows: Rows, z: Tensor, source: Source) -> Tensor:
    """The node's "compel": heavy tokens as in ComfyUI, light ones mixed out by replacement.

    Not what compel itself does, which hides light words from attention one fragment at a time.
    """
    empty = source.empty(rows)
    heavy = rows.weights.clamp(min=1)  # (C, T)

    def encode(changed: Rows) -> Tensor:
        return away_from_empty(source.vectors(changed), empty, heavy)

    return _mixed_out(rows, away_from_empty(z, empty, heavy), encode)


def down_weight(rows: Rows, z: Tensor, source: Source) -> Tensor:
    """Weights divided by the largest, so that heavy means all else lighter; then mixed out."""
    top = rows.weights.max().clamp(min=1)  # start and end have 1
    lighter = torch.where(rows.words == NO_WORD, rows.weights, rows.weights / top)
    return _mixed_out(replace(rows, weights=lighter), z, source.vectors)


def comfy_plus_plus(rows: Rows, z: Tensor, source: Source) -> Tensor:
    """Light words mixed out; heavy ones away from what they are when the word is replaced.

    `z_j + (w_j - 1)(z_j - z'_j)` for every token j of a word with a weight above 1, where z' is
    the prompt with this one word replaced, and with light words put back.
    """
    result = _mixed_out(rows, z, source.vectors)
    heavy = (rows.weights > 1) & (rows.words != NO_WORD)
    for word in sorted(set(rows.words[heavy].tolist())):
        places = rows.words == word  # (C, T)
        more = ((rows.weights - 1) * places).to(z).unsqueeze(-1)  # (C, T, 1)
        result = result + more * (z - source.vectors(_replaced(rows, places)))
    return result


def _mixed_out(rows: Rows, z: Tensor, encode: Callable[[Rows], Tensor]) -> Tensor:
    """A mean of encodings from which ever more of the light tokens are replaced, lightest first.

    With the different weights below 1 in order, w1 < w2 < ... < wk: `w1 z + (w2 - w1) z1 + ... +
    (1 - wk) zk`, where zi has all tokens up to wi replaced. So a weight of 0 is the replacement.
    """
    levels = sorted(set(rows.weights[rows.weights < 1].tolist()))
    if not levels:
        return z
    result: Tensor = levels[0] * z
    for level, following in zip(levels, [*levels[1:], 1.0], strict=True):
        lighter = encode(_replaced(rows, rows.weights <= level))
        result = result + (following - level) * lighter
    return result


def _replaced(rows: Rows, places: Tensor) -> Rows:
    """The rows with `REPLACEMENT` at `places` (C, T), also for vectors of textual inversions."""
    left = {at: vector for at, vector in rows.vectors.items() if not bool(places[at])}
    ids = torch.where(places, torch.full_like(rows.ids, REPLACEMENT), rows.ids)
    return replace(rows, ids=ids, vectors=left)
