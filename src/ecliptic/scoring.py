"""Pure functions on vectors. N, A, B rows, L labels, P prompts per label, E vector size."""

import math
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.errors import NumericalError, ShapeError, SpaceMismatchError


class SpacedRows(Protocol):
    """Vectors that say which embedding space they are of, as `ecliptic.Vectors` do."""

    @property
    def vectors(self) -> NDArray[Any]:
        """(N, E)."""

    @property
    def space(self) -> str:
        """The fingerprint of their space."""

    @property
    def model(self) -> str:
        """The name of the model that made them, for people."""


Rows: TypeAlias = Tensor | NDArray[Any] | SpacedRows  # (N, E)


def cosine(a: Rows, b: Rows) -> Tensor:
    """(A, E) and (B, E) vectors of any length -> (A, B) cosines in -1..1; zero vectors give 0.

    Args:
        a: a tensor, a NumPy array, or stored `Vectors`.
        b: the same; it is moved to the device of `a`.

    Raises:
        ShapeError: the vectors have different sizes, or are no numbers.
        SpaceMismatchError: both are stored vectors, of different spaces.
    """
    _check_spaces(a, b)
    a, b = to_tensor(a), to_tensor(b)
    if a.dtype != b.dtype or a.device != b.device:
        dtype = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(dtype), b.to(a.device, dtype)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"cosines need two sets of vectors of one size, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}; encode both with the same model."
        )
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def to_tensor(rows: Rows) -> Tensor:
    """Vectors of any kind as a tensor of floats; memory is shared where it can be.

    Raises:
        ShapeError: not numbers.
    """
    values: Any = rows if isinstance(rows, Tensor | np.ndarray) else getattr(rows, "vectors", rows)
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        values = torch.from_numpy(values if values.flags.writeable else values.copy())
    if not isinstance(values, Tensor) or values.is_complex():
        raise ShapeError(
            "vectors must be numbers in a tensor, a NumPy array or stored `Vectors`, got "
            f"{getattr(values, 'dtype', type(values).__name__)}; encode texts and images first."
        )
    return values if values.is_floating_point() else values.float()


def _check_spaces(a: Rows, b: Rows) -> None:
    spaces = [getattr(rows, "space", None) for rows in (a, b)]
    if None not in spaces and spaces[0] != spaces[1]:
        one, other = (f"{getattr(rows, 'model', '')} ({str(rows.space)[:12]})" for rows in (a, b))  # type: ignore[union-attr]
        raise SpaceMismatchError(
            f"vectors of {one} and of {other} are of two embedding spaces and cannot be compared; "
            "encode both with the same model."
        )


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


def ranks(queries: Rows, items: Rows, targets: Tensor, *, block: int = 1024) -> Tensor:
    """The rank of each query's target among all items by cosine: (Q,) int64, 1 is the best.

    Ties count against the target: its rank is the number of items that are at least as similar as
    it, itself included. The matrix of all similarities is never held.

    Args:
        queries: (Q, E) vectors.
        items: (I, E) vectors.
        targets: (Q,) the item that belongs to each query.
        block: queries that are compared at once.

    Raises:
        ShapeError: shapes that do not fit, or a target that is no item.
    """
    queries, items = to_tensor(queries), to_tensor(items)
    if targets.shape != (len(queries),):
        raise ShapeError(
            f"targets {tuple(targets.shape)} must be ({len(queries)},), one item per query."
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(items):
        raise ShapeError(f"targets must be numbers of the {len(items)} items, from 0.")
    found = torch.empty(len(queries), dtype=torch.int64)
    for start in range(0, len(queries), block):
        z = cosine(queries[start : start + block], items)
        own = z.gather(1, targets[start : start + block, None].to(z.device))  # of the same matmul
        found[start : start + block] = (z >= own).sum(1).cpu()
    return found
