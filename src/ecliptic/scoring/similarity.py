"""Pure functions on vectors. N, A, B rows, L labels, P prompts per label, E vector size."""

import math
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.errors import NumericalError, ShapeError, SpaceMismatchError

STRIP = 1 << 22  # similarities that are held at once
FEWEST_ROWS = 64  # of a strip


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
    check_spaces(a, b)
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


def check_spaces(a: Rows, b: Rows) -> None:
    """Raise SpaceMismatchError if both are stored vectors, and of different spaces."""
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


def ranks(queries: Rows, items: Rows, targets: Tensor, *, block: int | None = None) -> Tensor:
    """The rank by cosine of the best item that belongs to each query: (Q,) int64, 1 is the best.

    Only items that do not belong to the query stand before it: those that are at least as similar
    as its best one, and any that are not finite, so that neither ties nor a broken model look good.
    The matrix of all similarities is never held.

    Args:
        queries: (Q, E) vectors.
        items: (I, E) vectors.
        targets: (Q,) the item that belongs to each query; or, where several do, (P, 2) numbers of
            a query and of an item that belongs to it.
        block: queries that are compared at once; None: as many as fit a strip of memory.

    Raises:
        ShapeError: shapes that do not fit, or a query without an item.
    """
    queries, items = to_tensor(queries), to_tensor(items)
    if targets.ndim == 1 and len(targets) == len(queries):
        targets = torch.stack([torch.arange(len(queries)), targets.cpu()], dim=1)
    pairs = _check_pairs(targets, len(queries), len(items)).to(items.device)
    ends = torch.bincount(pairs[:, 0], minlength=len(queries)).cumsum(0).tolist()
    block = block or max(FEWEST_ROWS, STRIP // max(1, len(items)))
    found = torch.empty(len(queries), dtype=torch.int64)
    for start in range(0, len(queries), block):
        stop = min(start + block, len(queries))
        z = cosine(queries[start:stop], items)  # one matmul for all: equal vectors are equal
        rows, columns = pairs[ends[start - 1] if start else 0 : ends[stop - 1]].to(z.device).T
        own = torch.zeros_like(z, dtype=torch.bool)
        own[rows - start, columns] = True
        best = z.masked_fill(~own, -math.inf).amax(1, keepdim=True)
        found[start:stop] = 1 + (~(z < best) & ~own).sum(1).cpu()
    return found


def _check_pairs(pairs: Tensor, queries: int, items: int) -> Tensor:
    """The pairs in the order of their queries."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.is_floating_point():
        raise ShapeError(
            f"targets must be ({queries},) integers, the item of each query, or (P, 2), a query "
            f"and an item in each row, got {tuple(pairs.shape)} of {pairs.dtype}."
        )
    for name, column, count in zip(("query", "item"), pairs.T, (queries, items), strict=True):
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) < count:
            raise ShapeError(f"targets name a {name} beyond the {count} that there are, from 0.")
    if missing := queries - len(torch.unique(pairs[:, 0])):
        raise ShapeError(f"{missing} of {queries} queries have no item; leave them out.")
    return pairs[pairs[:, 0].argsort(stable=True)]
