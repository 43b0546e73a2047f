"""What each method of fine-tuning adds to a weight: one small class for each formula.

W is the weight (out, in) of a linear layer, or a bias or norm (n,); every class gives the
difference to it, in float32. Sources: Hu et al. 2021 (LoRA, arXiv:2106.09685), Hyeon-Woo et al.
2021 (LoHa, arXiv:2108.06098), Edalati et al. 2022 (LoKr, arXiv:2212.10650), Liu et al. 2022 (IA3,
arXiv:2205.05638), Chavan et al. 2023 (GLoRA, arXiv:2306.07967), Liu et al. 2024 (DoRA,
arXiv:2402.09353); the scales are those of LyCORIS 3, ComfyUI's weight_adapter and PEFT 0.21.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class WeightChange(Protocol):
    """A change of one parameter."""

    @property
    def key(self) -> str:
        """A key of it in the file, for messages."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape of the parameter that it changes; None fits any length."""

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """What is added to `weight`, the original in float32, at the strength `scale`."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """LoRA: alpha / rank * up @ down."""

    up: Tensor  # (out, rank), as stored
    down: Tensor  # (rank, in), as stored
    alpha: float  # the rank if the file has none
    key: str  # of `down` in the file

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(out, in) of the layer that it changes."""
        return self.up.shape[0], self.down.shape[1]

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """scale alpha / rank up @ down."""
        return (_like(self.up, weight) @ _like(self.down, weight)) * (
            scale * self.alpha / self.rank
        )


@dataclass(frozen=True, eq=False)
class Factors:
    """Two factors (rows, rank) and (rank, columns), with a core between them if it is Tucker's."""

    left: Tensor  # (rows, rank), or (rank, rows) beside a core
    right: Tensor  # (rank, columns)
    core: Tensor | None = None  # (rank, rank), or with ones after it

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the product."""
        return self.left.shape[0 if self.core is None else 1], self.right.shape[1]

    def product(self, like: Tensor) -> Tensor:
        """(rows, columns) in float32."""
        left, right = _like(self.left, like), _like(self.right, like)
        if self.core is None:
            return left @ right
        core = _like(self.core, like).reshape(self.core.shape[:2])
        return left.T @ core @ right


@dataclass(frozen=True, eq=False)
class Hadamard:
    """LoHa: factor * (w1_a w1_b) * (w2_a w2_b), element by element."""

    first: Factors
    second: Factors
    factor: float  # alpha / rank
    key: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(out, in) of the layer that it changes."""
        return self.first.shape

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """scale times the product."""
        return self.first.product(weight) * self.second.product(weight) * (scale * self.factor)


@dataclass(frozen=True, eq=False)
class Kronecker:
    """LoKr: factor * w1 (x) w2, the Kronecker product; each is a matrix or a product of two."""

    first: Tensor | Factors
    second: Tensor | Factors
    factor: float  # alpha / rank; 1 if both are matrices in a file of LyCORIS
    key: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(out, in) of the layer that it changes."""
        (a, b), (c, d) = self.first.shape, self.second.shape
        return a * c, b * d

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """scale times the product."""
        first, second = (
            one.product(weight) if isinstance(one, Factors) else _like(one, weight)
            for one in (self.first, self.second)
        )
        return torch.kron(first, second.contiguous()) * (scale * self.factor)


@dataclass(frozen=True, eq=False)
class Difference:
    """A full difference of a weight, a bias or a norm."""

    diff: Tensor
    key: str
    factor: float = 1.0

    @property
    def shape(self) -> tuple[int | None, ...]:
        """That of the difference."""
        return tuple(self.diff.shape)

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """scale times the difference."""
        return _like(self.diff, weight) * (scale * self.factor)


@dataclass(frozen=True, eq=False)
class Rescaling:
    """IA3: W times one number for each input or output."""

    added: Tensor  # (n,), the factors less 1
    axis: int  # of W: 0 for outputs, 1 for inputs
    ndim: int  # of W: 2 for a weight, 1 for a bias
    key: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The length of one axis."""
        return tuple(len(self.added) if axis == self.axis else None for axis in range(self.ndim))

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """W times scale (factor - 1)."""
        sizes = [-1 if axis == self.axis else 1 for axis in range(self.ndim)]
        return weight * _like(self.added, weight).view(sizes) * scale


@dataclass(frozen=True, eq=False)
class General:
    """GLoRA: factor * (W a + b), where a and b are of low rank."""

    inner: Factors  # (in, in)
    outer: Factors  # (out, in)
    factor: float  # alpha / rank
    key: str

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(out, in) of the layer that it changes."""
        return self.outer.shape

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """scale times the change."""
        moved = weight @ self.inner.product(weight) + self.outer.product(weight)
        return moved * (scale * self.factor)


@dataclass(frozen=True, eq=False)
class Decomposed:
    """DoRA: the changed weight, with the lengths of its rows or columns replaced.

    At the strength 1 all tools agree: magnitude (W + d) / |W + d|. At another strength, ComfyUI
    goes that part of the way from W (`blends`), while PEFT changes the strength of d alone.
    ComfyUI divides rows by their lengths in W, and LyCORIS and the paper, followed here, in W + d.
    """

    change: WeightChange
    magnitude: Tensor  # n numbers, any shape
    by_row: bool  # lengths of rows (one for each output), else of columns
    blends: bool

    @property
    def key(self) -> str:
        """That of its direction."""
        return self.change.key

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(out, in) of the layer that it changes."""
        return self.change.shape

    def delta(self, weight: Tensor, scale: float) -> Tensor:
        """The new weight less the old one."""
        moved = weight + self.change.delta(weight, 1.0 if self.blends else scale)
        length = torch.linalg.vector_norm(moved, dim=1 if self.by_row else 0, keepdim=True)
        length = length + torch.finfo(length.dtype).eps
        new = moved * (_like(self.magnitude, weight).reshape(length.shape) / length)
        changed: Tensor = new - weight
        return changed * scale if self.blends else changed


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """The tensor in float32 on the device of `other`."""
    return tensor.to(other.device, torch.float32)
