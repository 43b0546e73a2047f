"""The blocks of a tower with int8 or fp8 layers: where they can run, and their forms."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.model import Float8Layers, Quantisation, ReducedName, names_of_block
from ecliptic.runtime.kernels.choosing import KernelMode
from ecliptic.runtime.kernels.float8 import Float8Block, Float8Linear
from ecliptic.runtime.kernels.operators import has_float8
from ecliptic.runtime.kernels.quantised import QuantisedBlock
from ecliptic.runtime.kernels.tower import ReducedBlock, as_block
from ecliptic.runtime.precisions import name_of

Reduced: TypeAlias = Quantisation | Float8Layers
_DTYPES: Mapping[ReducedName, torch.dtype] = MappingProxyType(
    {"int8": torch.float32, "fp8": torch.bfloat16}
)


def check_reduced(kind: ReducedName, weight: Tensor, mode: KernelMode) -> None:
    """Refuse int8 or fp8 for a model with weights like `weight` that cannot have it.

    Raises:
        ConfigError: another precision or device, or kernels that int8 does not have.
    """
    check_place(kind, weight.device, mode)
    if weight.dtype != _DTYPES[kind]:
        wanted = name_of(_DTYPES[kind])
        raise ConfigError(
            f"{kind} layers are those of a model in {wanted}, but this one is "
            f'{name_of(weight.dtype)} on {weight.device}; load it with precision="{wanted}".'
        )


def check_place(kind: ReducedName, device: torch.device, mode: KernelMode) -> None:
    """Refuse int8 or fp8 where it does not run; raises as `check_reduced`."""
    if kind == "int8" and mode == "compiled":
        raise ConfigError(
            'int8 has kernels of its own; use kernels="auto" or "plain" in place of "compiled".'
        )
    if kind == "int8" and device.type != "cpu":
        raise ConfigError(
            f'precision "int8" runs on the CPU, not on {device}; use device="cpu", or "bf16" there.'
        )
    if kind == "fp8" and mode != "plain" and not has_float8(device):
        raise ConfigError(
            f'precision "fp8" runs on NVIDIA GPUs since compute capability 8.9 (Ada, Hopper), not '
            f'on {device}; use "bf16" here, "int8" on a CPU, or kernels="plain", which computes '
            "it anywhere, but slower than bf16."
        )


def check_names(reduced: Reduced, depths: Mapping[str, int]) -> None:
    """Refuse layers that a model with towers of these numbers of blocks does not have.

    Raises:
        ConfigError: names one of them.
    """
    known = {
        name
        for tower, depth in depths.items()
        for place in range(depth)
        for name in names_of_block(tower, place).values()
    }
    if unknown := sorted(set(reduced.linears) - known):
        raise ConfigError(
            f"the model has no layer {unknown[0]!r}, which is {reduced.kind} in the layers that "
            "were given; find them for this model."
        )


def reduce_blocks(
    tower: str, blocks: nn.ModuleList, reduced: Reduced, mode: KernelMode
) -> list[ReducedBlock]:
    """The form of every block of a tower."""
    plain = mode == "plain"
    found: list[ReducedBlock] = []
    for place, module in enumerate(blocks):
        block = as_block(module)
        if isinstance(reduced, Quantisation):
            found.append(QuantisedBlock(block, reduced.of_block(tower, place), plain=plain))
            continue
        layers = {
            part: Float8Linear.of(block.get_submodule(part), plain=plain)  # type: ignore[arg-type]
            for part in reduced.of_block(tower, place)
        }
        found.append(Float8Block(block, layers))
    return found
