"""Linear layers in int8 or fp8: the numbers that stand for float layers, and what was lost.

Inputs of int8 layers are bytes with one step for the whole tensor, weights are int8 with one step
for each row (Jacob et al. 2018, arXiv:1712.05877, section 2). Sums of products are exact integers.
Of fp8 layers only the names are kept: their numbers follow from the weights. How all are found and
computed is left to `runtime`. N rows, K inputs, M outputs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ecliptic.errors import ConfigError

# CPUs without VNNI add the products of two neighbours, each a byte and an int8, in 16 bits. Codes
# of two neighbours (columns 0 and 1, 2 and 3, ...) add up to 128 at most, and 255 * 128 = 32,640
# fits: every CPU gives the same sums.
LARGEST_CODE = 127
LARGEST_PAIR = 128
LARGEST_BYTE = 255
SAME_SPACE = 0.999  # smallest cosine with float32 of vectors that may be compared with it, as bf16
LINEARS = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")  # of a block, in order of use
ReducedName = Literal["int8", "fp8"]
TENSORS = ("weight", "scales", "bias", "smoothing")


@dataclass(frozen=True, eq=False)
class QuantisedLinear:
    """y[m] = scales[m] * scale * sum over k of (byte[k] - zero) * weight[m, k], plus bias[m].

    The byte of an input x[k] is `zero + x[k] / smoothing[k] / scale`, rounded and cut to 0 to 255.
    """

    weight: Tensor  # (M, K) int8
    scales: Tensor  # (M,) float32, the step of each row of the weight
    bias: Tensor  # (M,) float32, the mean error of all roundings included
    smoothing: Tensor  # (K,) float32
    scale: float  # the step of the inputs
    zero: int  # the byte of 0

    def __post_init__(self) -> None:
        """Refuse numbers that no quantisation gives, as in a damaged file."""
        M, K = self.weight.shape if self.weight.ndim == 2 else (-1, -1)
        shapes = {"scales": (M,), "bias": (M,), "smoothing": (K,)}
        for name, shape in shapes.items():
            tensor = getattr(self, name)
            if tensor.shape != shape or tensor.dtype != torch.float32:
                raise ConfigError(
                    f"{name} of an int8 layer with weights {tuple(self.weight.shape)} must be "
                    f"float32 {shape}, got {tensor.dtype} {tuple(tensor.shape)}."
                )
        if self.weight.dtype != torch.int8 or not self._is_within():
            raise ConfigError(
                f"weights of an int8 layer must be int8 from -{LARGEST_CODE} to {LARGEST_CODE}, "
                f"two neighbours together from -{LARGEST_PAIR} to {LARGEST_PAIR}, and all other "
                "numbers finite, with steps above 0."
            )

    def _is_within(self) -> bool:
        even = self.weight.shape[1] // 2 * 2
        pairs = self.weight[:, :even:2].short() + self.weight[:, 1:even:2].short()
        steps = torch.cat([self.scales, self.smoothing, torch.tensor([self.scale])])
        return (
            _largest(self.weight) <= LARGEST_CODE
            and _largest(pairs) <= LARGEST_PAIR
            and 0 <= self.zero <= LARGEST_BYTE
            and bool(torch.isfinite(steps).all() & (steps > 0).all())
            and bool(torch.isfinite(self.bias).all())
        )

    def to_float(self) -> Tensor:
        """(M, K) float32 weights that the codes stand for."""
        return self.weight.float().mul_(self.scales[:, None]).div_(self.smoothing)

    def bytes_of(self, x: Tensor) -> Tensor:
        """(..., K) float inputs -> their bytes, uint8."""
        return to_bytes(x / (self.smoothing * self.scale) + (self.zero + 0.5))


def _largest(codes: Tensor) -> int:
    return max(map(abs, map(int, codes.aminmax()))) if codes.numel() else 0


def to_bytes(steps: Tensor) -> Tensor:
    """Numbers of steps from 0, plus 0.5, as uint8; overwrites `steps`."""
    return steps.clamp_(0, LARGEST_BYTE).to(torch.uint8)


@dataclass(frozen=True)
class LayerError:
    """What int8 or fp8 does to one layer."""

    name: str  # "image.blocks.0.mlp.up"
    error: float  # of its block's output when this layer alone is changed, as a share of its size
    kept: bool  # as it was


@dataclass(frozen=True)
class TowerAgreement:
    """Cosines of int8 or fp8 vectors with those before, for inputs that gave no ranges."""

    tower: str  # "image" or "text"
    worst: float
    mean: float
    recall: float  # share of the 10 nearest in an index of vectors before that these find too
    inputs: int  # that were compared
    calibrated_on: int  # other inputs, that gave the ranges


@dataclass(frozen=True)
class QuantisationReport:
    """What was found when a model was quantised."""

    wanted: float  # the bound: smallest cosine with the vectors before
    towers: tuple[TowerAgreement, ...]
    layers: tuple[LayerError, ...]

    @property
    def worst(self) -> float:
        """The smallest cosine of all towers; 1 if none was quantised."""
        return min((tower.worst for tower in self.towers), default=1.0)

    @property
    def kept(self) -> tuple[str, ...]:
        """The layers that are left as they were."""
        return tuple(layer.name for layer in self.layers if layer.kept)

    def summary(self, kind: str, before: str) -> dict[str, Any]:
        """The few numbers that a card shows, with the precisions of all layers."""
        return {
            "wanted": self.wanted,
            "worst": {tower.tower: tower.worst for tower in self.towers},
            "mean": {tower.tower: tower.mean for tower in self.towers},
            f"in_{kind}": len(self.layers) - len(self.kept),
            f"in_{before}": len(self.kept),
        }


def names_of_block(tower: str, place: int) -> dict[str, str]:
    """Name in the model by name in the block, for each linear layer of one block."""
    return {part: f"{tower}.blocks.{place}.{part}" for part in LINEARS}


@dataclass(frozen=True, eq=False)
class Quantisation:
    """The int8 layers of a model, by name; layers that are not listed are in float32."""

    linears: Mapping[str, QuantisedLinear]
    report: QuantisationReport
    space: str | None = None  # of the float32 model, stated by a file that has no such weights
    kind: ClassVar[ReducedName] = "int8"
    before: ClassVar[str] = "fp32"  # precision of the model that it is made of

    @property
    def keeps_space(self) -> bool:
        """Whether its vectors may be compared with those of the float32 model."""
        return self.report.worst >= SAME_SPACE

    def of_block(self, tower: str, place: int) -> dict[str, QuantisedLinear]:
        """The int8 layers of one block, by their names in it."""
        names = names_of_block(tower, place).items()
        return {part: self.linears[name] for part, name in names if name in self.linears}

    def digest(self) -> str:
        """SHA-256 of all numbers of the int8 layers."""
        digest = hashlib.sha256()
        for name in sorted(self.linears):
            layer = self.linears[name]
            digest.update(f"\0{name}\0{layer.scale!r}\0{layer.zero}\0".encode())
            for part in TENSORS:
                tensor = getattr(layer, part).detach().cpu().contiguous()
                digest.update(bytes(tensor.view(-1).view(torch.uint8).numpy().data))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Float8Layers:
    """The layers of a bfloat16 model that are computed in 8-bit floats, by name."""

    linears: frozenset[str]
    report: QuantisationReport
    space: str | None = None  # of the bfloat16 model
    kind: ClassVar[ReducedName] = "fp8"
    before: ClassVar[str] = "bf16"

    @property
    def keeps_space(self) -> bool:
        """Whether its vectors may be compared with those of the bfloat16 model."""
        return self.report.worst >= SAME_SPACE

    def of_block(self, tower: str, place: int) -> set[str]:
        """The fp8 layers of one block, by their names in it."""
        return {part for part, name in names_of_block(tower, place).items() if name in self.linears}

    def digest(self) -> str:
        """SHA-256 of the names: the numbers follow from the weights."""
        return hashlib.sha256("\0".join(sorted(self.linears)).encode()).hexdigest()
