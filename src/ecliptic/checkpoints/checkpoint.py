"""`Checkpoint`, which every layout reads and writes: sizes, weights and input specs."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, Quantisation
from ecliptic.scoring import Calibration


@dataclass(frozen=True)
class Checkpoint:
    """A model that is not built yet. `weights` have our names; do not write to them."""

    config: ClipConfig
    weights: Mapping[str, Tensor]  # may be mapped from the file
    image_spec: ImageSpec | None  # None without an image tower
    tokenizer_spec: TokenizerSpec | None  # None without a text tower
    name: str = ""  # "ViT-B-32/openai", or the file's stem
    layout: str = ""  # of the file that it was read from: "ecliptic", "openai", ...
    calibration: Calibration | None = None  # of this model as it is
    notes: tuple[str, ...] = ()  # repairs and guesses made while reading
    quantisation: Quantisation | None = None  # int8 layers; their `weights` may be coded
