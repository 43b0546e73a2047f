"""What every layout reads into and writes from: sizes, weights, and how to prepare inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig


@dataclass(frozen=True)
class Checkpoint:
    """A model at rest. `weights` are native-named and may be memory-mapped; treat as read-only."""

    config: ClipConfig
    weights: Mapping[str, Tensor]
    image_spec: ImageSpec | None  # None without an image tower
    tokenizer_spec: TokenizerSpec | None  # None without a text tower
    name: str = ""  # "ViT-B-32/openai", or the file's stem
    layout: str = ""  # what it was read from: "ecliptic", "openai", ...
    notes: tuple[str, ...] = field(default=())  # repairs and guesses made on reading, in words
