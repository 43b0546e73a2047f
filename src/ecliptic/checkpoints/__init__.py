"""Bytes on disk <-> `Checkpoint`: every layout, the safe reader, the catalog.

Names are imported when first used, so that asking the catalog does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecliptic.checkpoints.checkpoint import Checkpoint
    from ecliptic.checkpoints.hints import Hints
    from ecliptic.checkpoints.layouts import Layout, read, write
    from ecliptic.checkpoints.openai import openai_keys

__all__ = ["Checkpoint", "Hints", "Layout", "openai_keys", "read", "write"]

_HOMES = {
    "checkpoint": ["Checkpoint"],
    "hints": ["Hints"],
    "layouts": ["Layout", "read", "write"],
    "openai": ["openai_keys"],
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
