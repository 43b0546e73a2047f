"""Linear layers in int8: the numbers that stand for a float layer, and what was lost by them.

Inputs are bytes with one step for the whole tensor, weights are int8 with one step for each row
(Jacob et al. 2018, arXiv:1712.05877, section 2). Sums of products are exact integers.
How they are found and computed is left to `runtime`. N rows, K inputs, M outputs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
    """What int8 does to one layer."""

    name: str  # "image.blocks.0.mlp.up"
    error: float  # of its block's output when this layer alone is int8, as a share of its size
    kept: bool  # in float32


@dataclass(frozen=True)
class TowerAgreement:
    """Cosines of int8 vectors with those of float32, for inputs that were not calibrated on."""

    tower: str  # "image" or "text"
    worst: float
    mean: float
    recall: float  # share of the 10 nearest in an index of float32 that int8 queries find too
    inputs: int  # that were compared
    calibrated_on: int  # other inputs, that gave the ranges


@dataclass(frozen=True)
class QuantisationReport:
    """What was found when a model was quantised."""

    wanted: float  # the bound: smallest cosine with float32
    towers: tuple[TowerAgreement, ...]
    layers: tuple[LayerError, ...]

    @property
    def worst(self) -> float:
        """The smallest cosine of all towers; 1 if none was quantised."""
        return min((tower.worst for tower in self.towers), default=1.0)

    @property
    def kept(self) -> tuple[str, ...]:
        """The layers that are left in float32."""
        return tuple(layer.name for layer in self.layers if layer.kept)

    def summary(self) -> dict[str, Any]:
        """The few numbers that a card shows."""
        return {
            "wanted": self.wanted,
            "worst": {tower.tower: tower.worst for tower in self.towers},
            "mean": {tower.tower: tower.mean for tower in self.towers},
            "layers": len(self.layers),
            "in_fp32": len(self.kept),
        }


@dataclass(frozen=True, eq=False)
class Quantisation:
    """The int8 layers of a model, by name; layers that are not listed are in float32."""

    linears: Mapping[str, QuantisedLinear]
    report: QuantisationReport
    space: str | None = None  # of the float32 model, stated by a file that has no such weights

    @property
    def keeps_space(self) -> bool:
        """Whether its vectors may be compared with those of the float32 model."""
        return self.report.worst >= SAME_SPACE

    def of_block(self, tower: str, place: int) -> dict[str, QuantisedLinear]:
        """The int8 layers of one block, by their names in it."""
        names = {part: f"{tower}.blocks.{place}.{part}" for part in LINEARS}
        return {part: self.linears[name] for part, name in names.items() if name in self.linears}

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
