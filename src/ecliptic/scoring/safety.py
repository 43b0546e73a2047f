"""The rules of released safety checkers, as pure functions on image vectors.

None of them says "safe" of a vector that is NaN or infinite. The rule of Stable Diffusion is
computed in float32, as NumPy 2 computes it in the original, so that roundings agree.
N images, C concepts, S concepts of special care, E vector size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecliptic.checks import check_finite
from ecliptic.errors import ShapeError
from ecliptic.scoring.similarity import Rows, cosine, to_tensor

ADJUSTMENT = 0.01  # lowers all later thresholds once special care is needed
DIGITS = 3  # after the decimal point; the threshold is in effect 0.0005 higher
IF_THRESHOLD = 0.5  # of both heads of DeepFloyd IF
_FIX = "the checker's file is damaged: fetch it again."


@dataclass(frozen=True)
class SafetyScores:
    """What the checker of Stable Diffusion computes; a score above 0 is over its threshold."""

    special: Tensor  # (N, S) rounded; NaN where a vector is not finite
    concepts: Tensor  # (N, C) the same
    usable: Tensor  # (N,) whether the vector is finite

    @property
    def special_care(self) -> Tensor:
        """(N, S) which concepts of special care are over their threshold."""
        return self.special > 0

    @property
    def flagged(self) -> Tensor:
        """(N,) whether a concept is over its threshold; true for a vector that is not finite."""
        return (self.concepts > 0).any(dim=1) | ~self.usable


def safety_scores(
    vectors: Rows, concepts: Rows, thresholds: Tensor, special: Rows, special_thresholds: Tensor
) -> SafetyScores:
    """The rule of Stable Diffusion's safety checker: cosine minus threshold, in 3 digits.

    The concepts of special care come first, in order. From the first one over its threshold on,
    0.01 is added to the scores of all that follow, also of special care.

    Args:
        vectors: (N, E) of images, of any length.
        concepts: (C, E) `concept_embeds`.
        thresholds: (C,) `concept_embeds_weights`.
        special: (S, E) `special_care_embeds`.
        special_thresholds: (S,) `special_care_embeds_weights`.

    Raises:
        ShapeError: shapes that do not fit.
        NumericalError: a concept or a threshold is NaN or infinite.

    Source: diffusers 0.42 pipelines/stable_diffusion/safety_checker.py, `forward`.
    """
    rows = to_tensor(vectors).detach().float().cpu()
    sides = []
    for what, some, limits in (
        ("concepts", concepts, thresholds),
        ("concepts of special care", special, special_thresholds),
    ):
        check_finite(to_tensor(some), f"the vectors of the {what}", _FIX)
        check_finite(limits, f"the thresholds of the {what}", _FIX)
        if limits.shape != (len(to_tensor(some)),):
            raise ShapeError(
                f"{len(to_tensor(some))} {what} need as many thresholds, got {tuple(limits.shape)}."
            )
        sides.append(cosine(rows, to_tensor(some).detach().float()) - limits.detach().float())
    scores, careful = sides
    raised = torch.zeros(len(rows))
    columns = []
    for column in careful.unbind(dim=1):
        columns.append(_round(column + raised))
        raised = torch.where(columns[-1] > 0, ADJUSTMENT, raised)
    found = torch.stack(columns, dim=1) if columns else careful
    return SafetyScores(found, _round(scores + raised[:, None]), rows.isfinite().all(dim=1))


def linear_scores(vectors: Rows, weight: Tensor, bias: Tensor) -> Tensor:
    """(N, E) raw vectors -> (N,) outputs of a linear head, without a sigmoid.

    DeepFloyd IF flags an image if the output is above `IF_THRESHOLD`; its vectors are those of the
    tower, not of unit length.

    Source: diffusers pipelines/deepfloyd_if/safety_checker.py.
    """
    return layer_scores(vectors, [(weight, bias)], [False])


def layer_scores(
    vectors: Rows, layers: Sequence[tuple[Tensor, Tensor]], relu: Sequence[bool]
) -> Tensor:
    """(N, E) vectors -> (N,) outputs of linear layers, the last of which has one output.

    Args:
        vectors: the input.
        layers: weight (out, in) and bias (out,) of each.
        relu: whether a ReLU follows each.

    Raises:
        ShapeError: shapes that do not fit together.
    """
    x = to_tensor(vectors).detach().float().cpu()
    for (weight, bias), clipped in zip(layers, relu, strict=True):
        if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1]:
            raise ShapeError(
                f"a layer {tuple(weight.shape)} takes vectors of {weight.shape[-1]} values, got "
                f"{tuple(x.shape)}; use vectors of the model that the head was trained on."
            )
        x = x @ weight.detach().float().T + bias.detach().float()
        x = x.relu() if clipped else x
    if x.shape[1] != 1:
        raise ShapeError(f"the last layer must have one output, it has {x.shape[1]}.")
    return x[:, 0]


def is_above(values: Tensor, threshold: float) -> Tensor:
    """(N,) whether each value is above the threshold; NaN counts as above, so it is never safe."""
    return ~(values <= threshold)


def _round(values: Tensor) -> Tensor:
    """Round as NumPy does: times 1000, to the nearest whole number, ties to even, by 1000."""
    return torch.from_numpy(np.round(values.numpy(), DIGITS))
