"""Precisions: in which numbers a model is kept, and in which each part of it is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch

from ecliptic.errors import ConfigError

PrecisionName: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Numerics:
    """One precision. Vectors come back in float32 whatever it is."""

    name: str
    weights: torch.dtype  # as they are kept in memory
    matmuls: torch.dtype
    norms: torch.dtype
    why: str  # when it is a good choice


_ROWS = (
    Numerics(
        "fp32",
        torch.float32,
        torch.float32,
        torch.float32,
        "the released numbers, equal to the reference implementations",
    ),
    Numerics(
        "bf16",
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
        "half the memory; never overflows, cosines to about 1e-3",
    ),
    Numerics(
        "fp16",
        torch.float16,
        torch.float16,
        torch.float32,
        "half the memory; overflows in some models",
    ),
)
NUMERICS: Mapping[str, Numerics] = MappingProxyType({row.name: row for row in _ROWS})
DTYPES: Mapping[str, torch.dtype] = MappingProxyType({row.name: row.weights for row in _ROWS})


def numerics_named(name: str) -> Numerics:
    """The row called `name`; "auto" is fp32.

    Raises:
        ConfigError: no such precision.
    """
    chosen = "fp32" if name == "auto" else name
    if chosen not in NUMERICS:
        raise ConfigError(
            f"precision must be one of {', '.join(['auto', *NUMERICS])}, got {name!r}."
        )
    return NUMERICS[chosen]


def name_of(dtype: torch.dtype) -> str:
    """The precision whose weights are of `dtype`; torch's own name of it where there is none."""
    return next((row.name for row in _ROWS if row.weights == dtype), str(dtype))
