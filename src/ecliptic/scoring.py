"""Pure functions on vectors. N, A, B rows, L labels, P prompts per label, E vector size."""

import math

import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import NumericalError, ShapeError


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(A, E) and (B, E) vectors of any length -> (A, B) cosines in -1..1; zero vectors give 0.

    Raises:
        ShapeError: the vectors have different sizes.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"cosines need two sets of vectors of one size, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}; encode both with the same model."
        )
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def probabilities(cosines: Tensor, scale: float) -> Tensor:
    """(I, L) cosines -> (I, L) shares that sum to 1 over the labels: softmax(scale * cosine).

    `scale` is exp(logit_scale), about 100 in released models. Source: Radford et al. 2021,
    arXiv:2103.00020, section 3.1.2.

    Raises:
        NumericalError: `scale` is NaN or infinity.
    """
    if not math.isfinite(scale):
        raise NumericalError(
            f"the scale exp(logit_scale) is {scale}, so there are no probabilities; the "
            "weight logit_scale is damaged: fetch the checkpoint again, or compare cosines."
        )
    return (scale * cosines).softmax(dim=-1)


def ensemble(prompts: Tensor) -> Tensor:
    """(L, P, E) prompt vectors -> (L, E): the mean of their unit vectors, at unit length.

    Source: openai/CLIP notebooks/Prompt_Engineering_for_ImageNet.ipynb; open_clip
    `build_zero_shot_classifier`.
    """
    if prompts.ndim != 3:
        raise ShapeError(f"prompts must be (labels, prompts, size), got {tuple(prompts.shape)}.")
    return F.normalize(F.normalize(prompts, dim=-1).mean(dim=1), dim=-1)
