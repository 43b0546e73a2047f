"""Weights of a prompt before an emphasis reads them: spread over a word, or centred on 1.

The `token_normalization` of BlenderNeko's ComfyUI node ADV_CLIP_emb, as read in its
adv_encode.py (`divide_length`, `shift_mean_weight`). C chunks, T tokens.
"""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ecliptic.diffusion.rows import NO_WORD, Rows

Normalization: TypeAlias = Literal["none", "mean", "length", "length+mean"]


def normalised(rows: Rows, normalization: Normalization) -> Tensor:
    """(C, T) float32 weights of `rows`; start, end and padding keep theirs.

    "length" divides what a weight has beyond 1 by the square root of the tokens its word has in
    all chunks: `1 + (w - 1) / sqrt(n)`. "mean" adds the one number that makes the mean over all
    tokens of words 1. "length+mean" does both, in this order. What a word is, `rows.words` says.
    """
    if normalization == "none":
        return rows.weights
    weights = rows.weights.cpu().double()  # in float32, equal weights would not centre on just 1
    words = rows.words.cpu()
    inside = words != NO_WORD  # (C, T)
    if not bool(inside.any()):
        return rows.weights
    if normalization.startswith("length"):
        numbers = words - NO_WORD  # from 0
        lengths = numbers.flatten().bincount()[numbers]  # (C, T) tokens of the word
        shorter = 1 + (weights - 1) / lengths.double().sqrt()
        weights = torch.where(inside, shorter, weights)
    if normalization.endswith("mean"):
        weights = torch.where(inside, weights + (1 - weights[inside].mean()), weights)
    return weights.to(rows.weights)
