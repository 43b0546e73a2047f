"""Bytes on disk <-> `Checkpoint`: every layout, the safe reader, the catalog.

Names are imported when first used, so that asking the catalog does not import torch.
"""

from typing import TYPE_CHECKING

from ecliptic.checkpoints import catalog  # imports no torch
from ecliptic.checkpoints.catalog import Row
from ecliptic.lazy import arriving_later

if TYPE_CHECKING:
    from ecliptic.checkpoints.checkpoint import Checkpoint
    from ecliptic.checkpoints.hints import Hints
    from ecliptic.checkpoints.layouts import Layout, read, write
    from ecliptic.checkpoints.location import Located, locate
    from ecliptic.checkpoints.openai import openai_keys
    from ecliptic.checkpoints.safe_reader import TorchArchive, read_torch
    from ecliptic.checkpoints.sniff import WEIGHT_SUFFIXES
    from ecliptic.checkpoints.tensors import TensorFile, read_safetensors

__all__ = [
    "WEIGHT_SUFFIXES",
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
    "Checkpoint": "checkpoint",
    "Hints": "hints",
    "Layout": "layouts",
    "Located": "location",
    "TensorFile": "tensors",
    "TorchArchive": "safe_reader",
    "WEIGHT_SUFFIXES": "sniff",
    "locate": "location",
    "openai_keys": "openai",
    "read": "layouts",
    "read_safetensors": "tensors",
    "read_torch": "safe_reader",
    "write": "layouts",
}


__getattr__ = arriving_later(__name__, _HOMES)
