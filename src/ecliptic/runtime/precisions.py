"""The precisions in which models are stored and computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch

from ecliptic.checks import check_choice

PrecisionName: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Numerics:
    """One precision, by the parts of a model; vectors are returned in float32."""

    name: str
    weights: torch.dtype  # in memory
    matmuls: torch.dtype
    norms: torch.dtype
    why: str  # when it is a good choice

    def describe(self) -> str:
        """The name, and the parts that are computed in another dtype than the weights."""
        parts = (("matmuls", self.matmuls), ("norms", self.norms))
        others = [f"{part} in {name_of(dtype)}" for part, dtype in parts if dtype != self.weights]
        return ", ".join([self.name, *others])


_F32, _BF16, _F16 = torch.float32, torch.bfloat16, torch.float16
_ROWS = (
    Numerics(
        "fp32", _F32, _F32, _F32, "the numbers of the reference implementations for these weights"
    ),
    Numerics("bf16", _BF16, _BF16, _F32, "half the memory; never overflows, cosines above 0.999"),
    Numerics("fp16", _F16, _F16, _F32, "half the memory; overflows in some models"),
)
NUMERICS: Mapping[str, Numerics] = MappingProxyType({row.name: row for row in _ROWS})
_SPELLINGS: Mapping[str, str] = MappingProxyType(  # of torch
    {
        "float32": "fp32",
        "float": "fp32",
        "bfloat16": "bf16",
        "float16": "fp16",
        "half": "fp16",
    }
)
DTYPES: Mapping[str, torch.dtype] = MappingProxyType({row.name: row.weights for row in _ROWS})


def find_numerics(precision: str | torch.dtype, others: Sequence[str] = ()) -> Numerics:
    """The row called `precision`, also as torch spells it ("float16", `torch.float16`).

    "auto" is fp32. `others` are named with the rows in the error: the caller knows them.

    Raises:
        ConfigError: no such precision.
    """
    spelled = str(precision).removeprefix("torch.")
    name = _SPELLINGS.get(spelled, spelled)
    if name not in ("auto", *NUMERICS):
        check_choice("precision", name, ["auto", *NUMERICS, *others])
    return NUMERICS["fp32" if name == "auto" else name]


def name_of(dtype: torch.dtype) -> str:
    """The precision with weights of `dtype`, or torch's name of `dtype` if there is none."""
    return next((row.name for row in _ROWS if row.weights == dtype), str(dtype))
