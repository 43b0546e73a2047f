"""All settings of a training run; a recipe in `recipes/` is a `TrainSettings` in TOML."""

from dataclasses import dataclass, field
from typing import Literal

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig

DESIGNS = (
    "noto",
    "blobmoji",
    "twemoji",
    "emojione2",
    "fluent_3d",
    "fluent_flat",
    "fluent_high_contrast",
)


@dataclass(frozen=True)
class DataSettings:
    """The drawings to train on, and their shares of each batch."""

    designs: tuple[str, ...] = DESIGNS  # emoji/<design>.tar
    validation: str = "fxemoji"  # a design that is never trained on
    emoji: float = 0.64  # share of a batch
    openclipart: float = 0.18
    game_icons: float = 0.18

    def __post_init__(self) -> None:
        if self.validation in self.designs:
            raise ConfigError(
                f"{self.validation!r} is the validation design, which training must not see; take "
                "it out of data.designs."
            )
        if abs(self.emoji + self.openclipart + self.game_icons - 1) > 1e-6:
            raise ConfigError("the shares data.emoji, openclipart and game_icons must sum to 1.")


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW with linear warm-up and cosine decay to zero; the defaults follow open_clip."""

    rate: float = 1e-3  # at the end of the warm-up
    warmup: int = 200  # steps
    restarts: tuple[int, ...] = ()  # steps at which the cosine begins again, at `restart_rate`
    restart_rate: float = 5e-4
    decay: float = 0.1  # on matrices and kernels only
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-6
    clip: float = 1.0  # largest norm of all gradients together


@dataclass(frozen=True)
class TrainSettings:
    """The settings of one run; `model` is ViT-B/32 by default, so a recipe sets its own."""

    name: str = "clip"
    steps: int = 4000
    batch: int = 256  # pairs
    seed: int = 0
    device: str = "auto"  # CUDA if there is one, else CPU
    precision: Literal["fp32", "bf16"] = "bf16"  # of the matmuls; weights stay float32
    store: Literal["fp32", "fp16"] = "fp32"  # of the written weights; fp16 halves the file
    log_every: int = 50  # steps
    evaluate_every: int = 500  # steps
    model: ClipConfig = field(default_factory=ClipConfig)
    image_spec: ImageSpec = field(default_factory=ImageSpec)
    tokenizer_spec: TokenizerSpec = field(default_factory=TokenizerSpec)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    data: DataSettings = field(default_factory=DataSettings)

    def __post_init__(self) -> None:
        image, text = self.model.image, self.model.text
        if image is None or text is None:
            raise ConfigError("contrastive training needs an image tower and a text tower.")
        if image.image_size != self.image_spec.size:
            raise ConfigError(
                f"model.image.image_size {image.image_size} and image_spec.size "
                f"{self.image_spec.size} differ; give both the same."
            )
        spec = self.tokenizer_spec
        if (text.vocabulary, text.context) != (spec.vocabulary, spec.context):
            raise ConfigError(
                f"the tokenizer has {spec.vocabulary} ids and {spec.context} positions, the text "
                f"tower {text.vocabulary} and {text.context}; give both the same."
            )
        if text.end_of_text != spec.end_of_text:
            raise ConfigError(f"model.text.end_of_text must be {spec.end_of_text}.")
