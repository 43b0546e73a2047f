"""What the weights of a prompt do to its vectors: asked for before encoding, applied after it.

A dialect says which weight each token has; an emphasis says what a weight does. `plan` says which
other forms of the prompt have to be encoded (`variants.py`), and `WeightedVectors` takes their
vectors in one by one. Rules that only multiply need none (`scaling.py`). No rule touches the
pooled vector.
C chunks, T tokens, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.diffusion.emphasis.scaling import original, over_prompt, widen, without_norm
from ecliptic.diffusion.emphasis.variants import (
    Variant,
    adv_compel,
    comfy_plus_plus,
    comfyui,
    compel,
    down_weight,
)
from ecliptic.diffusion.options import Emphasis, EmphasisName, Normalization
from ecliptic.diffusion.tokens.chunks import NO_WORD, Chunks
from ecliptic.errors import ShapeError

_SCALING: Mapping[EmphasisName, Callable[[Chunks, Tensor], Tensor]] = MappingProxyType(
    {"original": original, "no-norm": without_norm, "lpw": over_prompt}
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
_MILDER = "use milder weights, or an encoder in float32 if it is in half precision."


@dataclass(frozen=True, eq=False)
class Plan:
    """What the weights of one prompt need."""

    emphasis: Emphasis
    chunks: Chunks  # with the weights as they act
    away: Tensor | None = None  # (C, T) how far from the empty prompt; None is not at all
    variants: tuple[Variant, ...] = ()

    @property
    def needs_empty(self) -> bool:
        """Whether the empty prompt has to be encoded too."""
        return self.away is not None


def plan(chunks: Chunks, emphasis: Emphasis) -> Plan | None:
    """What to encode beside `chunks`; None where the weights change nothing.

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
    away, variants = _VARIANTS[emphasis.name](weighted)
    return Plan(emphasis, weighted, away, tuple(variants))


class WeightedVectors:
    """The vectors of one prompt while its variants come in. Half precision is kept in float32."""

    def __init__(self, plan: Plan, z: Tensor, empty: Tensor | None = None) -> None:
        """Begin with the prompt as it is.

        Args:
            plan: of the prompt.
            z: (C, T, D) its vectors.
            empty: (1, T, D) the vectors of the empty prompt, where the plan needs them.

        Raises:
            ShapeError: `z` is not of this prompt.
        """
        if z.ndim != 3 or z.shape[:2] != plan.chunks.ids.shape:
            raise ShapeError(
                f"vectors {tuple(z.shape)} are not of chunks {tuple(plan.chunks.ids.shape)}; pass "
                "what the encoder gives for these chunks, (chunks, tokens, width)."
            )
        self._plan, self._dtype = plan, z.dtype
        self._empty = None if empty is None else widen(empty)
        scale = _SCALING.get(plan.emphasis.name)
        every = torch.arange(len(z))
        self._start = scale(plan.chunks, widen(z)) if scale else self._step(widen(z), every)
        self._sum = self._start

    def add(self, variant: Variant, vectors: Tensor) -> None:
        """Take in the (c, T, D) vectors of one variant."""
        numbers = variant.numbers.to(vectors.device)
        found = self._step(widen(vectors), variant.numbers)
        difference = variant.share.to(found) * (found - self._start[numbers])
        self._sum = self._sum.index_add(0, numbers, difference)

    def result(self) -> Tensor:
        """(C, T, D) with every variant in it, in the dtype that came in.

        Raises:
            NumericalError: the weights made a value NaN or infinite.
        """
        weights, name = self._plan.chunks.weights, self._plan.emphasis.name
        low, high = weights.min().item(), weights.max().item()
        what = f"a prompt with weights from {low:g} to {high:g} under emphasis {name!r}"
        result = self._sum.to(self._dtype)
        check_finite(result, what, _MILDER)
        return result

    def _step(self, z: Tensor, numbers: Tensor) -> Tensor:
        """`z` of some chunks, away from the empty prompt where the plan says so."""
        if self._plan.away is None:
            return z
        assert self._empty is not None  # asked for by `needs_empty`
        return away_from_empty(z, self._empty, self._plan.away[numbers])


def away_from_empty(z: Tensor, empty: Tensor, weights: Tensor) -> Tensor:
    """`(z - e) w + e`, token by token; where the weight is 1 exactly `z`.

    Args:
        z: (C, T, D) vectors of the prompt.
        empty: (1, T, D) vectors of the empty prompt.
        weights: (C, T).

    Source: ComfyUI comfy/sd1_clip.py `ClipTokenWeightEncoder.encode_token_weights`; compel 2.5.1
    embeddings_provider.py `build_weighted_embedding_tensor` has the same.
    """
    w = weights.to(z).unsqueeze(-1)  # (C, T, 1)
    return torch.where(w == 1, z, (z - empty) * w + empty)


def normalise(chunks: Chunks, normalization: Normalization) -> Tensor:
    """(C, T) float32 weights of `chunks`; start, end and padding keep theirs.

    "length" divides what a weight has beyond 1 by the square root of the tokens its word has in
    all chunks: `1 + (w - 1) / sqrt(n)`. "mean" adds the one number that makes the mean over all
    tokens of words 1. "length+mean" does both, in this order. What a word is, `chunks.words` says.

    Source: the `token_normalization` of ComfyUI_ADV_CLIP_emb, adv_encode.py (`divide_length`,
    `shift_mean_weight`).
    """
    if normalization == "none":
        return chunks.weights
    weights = chunks.weights.cpu().double()  # in float32, equal weights would not centre on just 1
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
