"""Reads and writes checkpoints: every layout, the safe reader, the catalog.

Names are lazy, so that the catalog does not import torch.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.checkpoints import catalog as catalog
    from ecliptic.checkpoints.catalog import Row as Row
    from ecliptic.checkpoints.checkpoint import Checkpoint as Checkpoint
    from ecliptic.checkpoints.hub.location import Located as Located, locate as locate
    from ecliptic.checkpoints.identity.hints import Hints as Hints
    from ecliptic.checkpoints.layouts.open_clip import open_clip_config as open_clip_config
    from ecliptic.checkpoints.layouts.openai import (
        openai_config as openai_config,
        openai_keys as openai_keys,
    )
    from ecliptic.checkpoints.layouts.safety_checker import (
        find_safety_checker as find_safety_checker,
        read_safety_heads as read_safety_heads,
    )
    from ecliptic.checkpoints.layouts.transformers import transformers_keys as transformers_keys
    from ecliptic.checkpoints.reading import Layout as Layout, read as read, write as write
    from ecliptic.storage import (
        WEIGHT_SUFFIXES as WEIGHT_SUFFIXES,
        TensorFile as TensorFile,
        TorchArchive as TorchArchive,
        read_safetensors as read_safetensors,
        read_torch as read_torch,
    )

__getattr__, __dir__ = lazy_names(__name__)
