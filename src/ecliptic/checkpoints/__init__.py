"""Bytes on disk <-> `Checkpoint`: every layout, the safe reader, the catalog.

Names are imported when first used, so that asking the catalog does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ecliptic.checkpoints import catalog  # imports no torch
from ecliptic.checkpoints.catalog import Row

if TYPE_CHECKING:
    from ecliptic.checkpoints.checkpoint import Checkpoint
    from ecliptic.checkpoints.hints import Hints
    from ecliptic.checkpoints.layouts import Layout, read, write
    from ecliptic.checkpoints.location import Located, locate
    from ecliptic.checkpoints.openai import openai_keys
    from ecliptic.checkpoints.safe_reader import TorchArchive, read_torch
    from ecliptic.checkpoints.tensors import TensorFile, read_safetensors

__all__ = [
    "Checkpoint",
    "Hints",
    "Layout",
    "Located",
    "Row",
    "TensorFile",
    "TorchArchive",
    "catalog",
    "locate",
    "openai_keys",
    "read",
    "read_safetensors",
    "read_torch",
    "write",
]

_HOMES = {
    "checkpoint": ["Checkpoint"],
    "hints": ["Hints"],
    "layouts": ["Layout", "read", "write"],
    "location": ["Located", "locate"],
    "safe_reader": ["TorchArchive", "read_torch"],
    "tensors": ["TensorFile", "read_safetensors"],
    "openai": ["openai_keys"],
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
