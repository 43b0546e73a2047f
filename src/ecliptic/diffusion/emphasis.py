"""What the weights of a prompt mean: one function for every way that tools have found.

A dialect says which weight each token has; an emphasis says what a weight does to the vectors.
The rules live in `emphasis_mean.py`, `emphasis_source.py`, `emphasis_masking.py` and
`emphasis_replacing.py`. No rule touches the pooled vector. C chunks, T tokens, D width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ecliptic.diffusion.emphasis_masking import compel
from ecliptic.diffusion.emphasis_mean import original, over_prompt, without_norm
from ecliptic.diffusion.emphasis_replacing import adv_compel, comfy_plus_plus, down_weight
from ecliptic.diffusion.emphasis_source import Encode, Source, comfyui, widened
from ecliptic.diffusion.normalising import Normalization, normalised
from ecliptic.diffusion.rows import Rows
from ecliptic.errors import ConfigError, NumericalError, ShapeError

EmphasisName: TypeAlias = Literal[
    "original",  # A1111: times w, the mean of each chunk kept
    "no-norm",  # A1111's "No norm", kohya's weighted captions: times w
    "ignore",  # A1111's "Ignore": weights are read and do nothing
    "lpw",  # diffusers' lpw pipelines, ADV_CLIP_emb's "A1111": times w, the prompt's mean kept
    "comfyui",  # away from the empty prompt
    "compel",  # as ComfyUI, and light fragments hidden from attention
    "adv-compel",  # ADV_CLIP_emb's "compel": as ComfyUI, and light words replaced
    "comfy++",  # ADV_CLIP_emb: light words replaced, heavy ones away from their replacement
    "down-weight",  # ADV_CLIP_emb: the heaviest word counts 1, all lighter ones are replaced
]
_SCALING: Mapping[EmphasisName, Callable[[Rows, Tensor], Tensor]] = MappingProxyType(
    {"original": original, "no-norm": without_norm, "lpw": over_prompt}
)
_READING: Mapping[EmphasisName, Callable[[Rows, Tensor, Source], Tensor]] = MappingProxyType(
    {
        "comfyui": comfyui,
        "compel": compel,
        "adv-compel": adv_compel,
        "comfy++": comfy_plus_plus,
        "down-weight": down_weight,
    }
)


@dataclass(frozen=True)
class Emphasis:
    """What weights do, and what is done to them before; the defaults are A1111's."""

    name: EmphasisName = "original"
    normalization: Normalization = "none"

    def __post_init__(self) -> None:
        for field, known in (("name", EmphasisName), ("normalization", Normalization)):
            if (value := getattr(self, field)) not in get_args(known):
                choices = ", ".join(map(repr, get_args(known)))
                what = "emphasis" if field == "name" else "normalization of weights"
                raise ConfigError(f"there is no {what} {value!r}; use one of {choices}.")
        if self.name == "compel" and self.normalization != "none":
            raise ConfigError(
                f"normalization {self.normalization!r} gives the words of a fragment different "
                'weights, and "compel" weights whole fragments; use "adv-compel", which takes it.'
            )


def emphasise(
    rows: Rows, z: Tensor, encode: Encode, emphasis: Emphasis, *, pad: int, end_of_text: int
) -> Tensor:
    """Vectors of a prompt with the weights of its tokens applied.

    Weights of 1 everywhere give `z` itself. Half precision is computed in float32.

    Args:
        rows: the chunks of one prompt; its weights are what is applied.
        z: (C, T, D) what `encode(rows)` gives.
        encode: the encoder, for rules that need the prompt in another form.
        emphasis: the rule.
        pad: id that fills an empty prompt.
        end_of_text: id behind an empty prompt's start.

    Returns:
        (C, T, D) in the dtype of `z`.

    Raises:
        ShapeError: `z` is not of these rows.
        NumericalError: a weight, or a vector that the weights made, is NaN or infinite.
    """
    if z.ndim != 3 or z.shape[:2] != rows.ids.shape:
        raise ShapeError(
            f"vectors {tuple(z.shape)} are not of rows {tuple(rows.ids.shape)}; pass what the "
            "encoder gives for these rows, (chunks, tokens, width)."
        )
    check_finite(rows.weights, "the weights of a prompt")
    weighted = replace(rows, weights=normalised(rows, emphasis.normalization))
    if emphasis.name == "ignore" or bool((weighted.weights == 1).all()):
        return z
    if scale := _SCALING.get(emphasis.name):
        result = scale(weighted, widened(z))
    else:
        source = Source(encode, pad, end_of_text)
        result = _READING[emphasis.name](weighted, widened(z), source)
    low, high = weighted.weights.min().item(), weighted.weights.max().item()
    what = f"a prompt with weights from {low:g} to {high:g} under emphasis {emphasis.name!r}"
    return check_finite(result.to(z.dtype), what)


def check_finite(tensor: Tensor, what: str) -> Tensor:
    """The tensor itself, if all of it is finite.

    Args:
        tensor: of any shape.
        what: whose vectors these are, for the message, such as `prompt 'a cat'`.

    Raises:
        NumericalError: something is NaN or infinite.
    """
    finite = tensor.isfinite()
    if bool(finite.all()):
        return tensor
    bad, first = int((~finite).sum()), tuple((~finite).nonzero()[0].tolist())
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    raise NumericalError(
        f"{bad} of {tensor.numel()} values of {what} are NaN or infinite, the first at {first} of "
        f"{tuple(tensor.shape)}; use milder weights{', or an encoder in float32' if half else ''}."
    )
