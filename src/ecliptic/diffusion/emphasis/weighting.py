"""Applies the weights of a prompt to its vectors: planned before encoding, applied after it.

A dialect sets the weight of each token; an emphasis decides what a weight does. `plan` lists the
variants of the prompt to encode (`variants.py`), and `WeightedVectors` adds their vectors one by
one. Rules that only multiply need no variants (`scaling.py`). No rule changes the pooled vector.
C chunks, T tokens, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.emphasis.scaling import lpw, no_norm, original, widen
from ecliptic.diffusion.emphasis.variants import (
    Variant,
    adv_compel,
    comfy_plus_plus,
    comfyui,
    compel,
    compel_remove,
    down_weight,
)
from ecliptic.diffusion.options import Emphasis, EmphasisName, Normalization
from ecliptic.diffusion.tokens.chunks import NO_WORD, Chunks
from ecliptic.errors import ShapeError

_SCALING: Mapping[EmphasisName, Callable[[Chunks, Tensor], Tensor]] = MappingProxyType(
    {"original": original, "no-norm": no_norm, "lpw": lpw}
)
_VARIANTS: Mapping[EmphasisName, Callable[[Chunks], tuple[Tensor | None, list[Variant]]]] = (
    MappingProxyType(
        {
            "comfyui": comfyui,
            "compel": compel,
            "adv-compel": adv_compel,
            "comfy++": comfy_plus_plus,
            "down-weight": down_weight,
        }
    )
)
_REMOVING: Mapping[
    EmphasisName, Callable[[Chunks, Callable[[int], Chunks]], tuple[Tensor, list[Variant]]]
] = MappingProxyType({"compel-remove": compel_remove})
_MILDER = "use weights closer to 1, or an encoder in float32 if it is in half precision."


@dataclass(frozen=True, eq=False)
class Plan:
    """The work that the weights of one prompt need."""

    emphasis: Emphasis
    chunks: Chunks  # with normalised weights
    away: Tensor | None = None  # (C, T) distance from the empty prompt; None: vectors do not move
    variants: tuple[Variant, ...] = ()

    @property
    def needs_empty(self) -> bool:
        """Whether the empty prompt has to be encoded too."""
        return self.away is not None


def plan(
    chunks: Chunks, emphasis: Emphasis, without: Callable[[int], Chunks] | None = None
) -> Plan | None:
    """Plan what to encode beside `chunks`; None if the weights change nothing.

    Args:
        chunks: of the prompt.
        emphasis: what its weights do.
        without: lays out the prompt without the segment of a number, for "compel-remove".

    Raises:
        NumericalError: a weight is NaN or infinite.
    """
    check_finite(chunks.weights, "the weights of a prompt", _MILDER)
    weights = normalise(chunks, emphasis.normalization)
    weighted = replace(chunks, weights=weights)
    if emphasis.name == "ignore" or bool((weights == 1).all()):
        return None
    if emphasis.name in _SCALING:
        return Plan(emphasis, weighted)
    away: Tensor | None
    if emphasis.name in _REMOVING:
        assert without is not None  # every caller with this emphasis has the words
        away, variants = _REMOVING[emphasis.name](weighted, without)
    else:
        away, variants = _VARIANTS[emphasis.name](weighted)
    return Plan(emphasis, weighted, away, tuple(variants))


class WeightedVectors:
    """Adds up the vectors of a prompt and of its variants; half precision is added in float32."""

    def __init__(self, plan: Plan, z: Tensor, empty: Tensor | None = None) -> None:
        """Start with the vectors of the unchanged prompt.

        Args:
            plan: of the prompt.
            z: (C, T, D) its vectors.
            empty: (1, T, D) the vectors of the empty prompt, if the plan needs them.

        Raises:
            ShapeError: `z` is not of this prompt.
        """
        if z.ndim != 3 or z.shape[:2] != plan.chunks.ids.shape:
            raise ShapeError(
                f"vectors {tuple(z.shape)} do not fit chunks {tuple(plan.chunks.ids.shape)}; pass "
                "the output of the encoder for these chunks, (chunks, tokens, width)."
            )
        self._plan, self._dtype = plan, z.dtype
        self._empty = None if empty is None else widen(empty)
        scale = _SCALING.get(plan.emphasis.name)
        self._start = scale(plan.chunks, widen(z)) if scale else self._move(widen(z), plan.away)
        self._sum = self._start.clone() if plan.variants else self._start

    def add(self, variant: Variant, vectors: Tensor) -> None:
        """Add the (c, T, D) vectors of one variant."""
        numbers = variant.numbers.to(vectors.device)
        away = variant.away
        if away is None and self._plan.away is not None:
            away = self._plan.away[variant.numbers]
        found = self._move(widen(vectors), away)
        difference = variant.share.to(found) * (found - self._start[numbers])
        self._sum.index_add_(0, numbers, difference)

    def result(self) -> Tensor:
        """The (C, T, D) sum with all variants, in the dtype of the input.

        Raises:
            NumericalError: the weights made a value NaN or infinite.
        """
        weights, name = self._plan.chunks.weights, self._plan.emphasis.name
        low, high = weights.min().item(), weights.max().item()
        what = f"a prompt with weights from {low:g} to {high:g} under emphasis {name!r}"
        result = self._sum.to(self._dtype)
        check_finite(result, what, _MILDER)
        return result

    def _move(self, z: Tensor, away: Tensor | None) -> Tensor:
        """Move `z` of some chunks by `away` from the empty prompt, if the plan does so."""
        if away is None:
            return z
        assert self._empty is not None  # see `needs_empty`
        return move_from_empty(z, self._empty, away)


def move_from_empty(z: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """Move each token to `(z - e) w + e`; where the weight is 1, it stays exactly `z`.

    Args:
        z: (C, T, D) vectors of the prompt.
        empty: (1, T, D) vectors of the empty prompt.
        weights: (C, T).

    Source: ComfyUI comfy/sd1_clip.py `ClipTokenWeightEncoder.encode_token_weights`; compel 2.5.1
    embeddings_provider.py `build_weighted_embedding_tensor` does the same.
    """
    w = weights.to(z).unsqueeze(-1)  # (C, T, 1)
    return torch.where(w == 1, z, (z - empty) * w + empty)


def normalise(chunks: Chunks, normalization: Normalization) -> Tensor:
    """Normalise the weights of `chunks` to (C, T) float32; start, end and padding keep theirs.

    "length" divides `w - 1` by the square root of the number of tokens of the word in all chunks:
    `1 + (w - 1) / sqrt(n)`. "mean" adds one number to all weights, so that the mean over all tokens
    of words is 1. "length+mean" does both, in this order. `chunks.words` defines the words.

    Source: the `token_normalization` of ComfyUI_ADV_CLIP_emb, adv_encode.py (`divide_length`,
    `shift_mean_weight`).
    """
    if normalization == "none":
        return chunks.weights
    weights = chunks.weights.cpu().double()  # float32 would not centre equal weights on exactly 1
    words = chunks.words.cpu()
    inside = words != NO_WORD  # (C, T)
    if not bool(inside.any()):
        return chunks.weights
    if normalization.startswith("length"):
        numbers = words - NO_WORD  # from 0
        lengths = numbers.flatten().bincount()[numbers]  # (C, T) tokens of the word
        shorter = 1 + (weights - 1) / lengths.double().sqrt()
        weights = torch.where(inside, shorter, weights)
    if normalization.endswith("mean"):
        weights = torch.where(inside, weights + (1 - weights[inside].mean()), weights)
    return weights.to(chunks.weights)
