"""Settings of a checkpoint: those given (`Hints`), and those in its file (`Stated`)."""

from dataclasses import dataclass

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import Activation, ClipConfig, check_activation
from ecliptic.scoring import Calibration


@dataclass(frozen=True)
class Hints:
    """Settings from the caller or the catalog; None uses the setting in the file."""

    part: str | None = None  # "text_encoder", "clip_g", ...: which encoder of a pipeline
    activation: Activation | None = None
    heads: int | tuple[int, int] | None = None  # of every tower, or (image, text)
    image_spec: ImageSpec | None = None
    tokenizer_spec: TokenizerSpec | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.activation is not None:
            check_activation(self.activation)
        if isinstance(self.heads, list):
            object.__setattr__(self, "heads", tuple(self.heads))
        counts = self.heads if isinstance(self.heads, tuple) else (self.heads,) * 2
        if self.heads is not None and not (
            len(counts) == 2 and all(type(count) is int and count >= 1 for count in counts)
        ):
            raise ConfigError(
                f"heads must be one number for every tower or (image, text), got {self.heads!r}."
            )

    def heads_of(self, tower: str) -> int | None:
        """The given number of heads of "image" or "text"."""
        if isinstance(self.heads, tuple):
            return self.heads[tower == "text"]
        return self.heads


@dataclass(frozen=True)
class Stated:
    """Settings in a file beside its tensors; None if it does not state one."""

    config: ClipConfig | None = None
    activation: Activation | None = None
    head_width: int | None = None  # if the layout's loader computes heads as width // head_width
    image_spec: ImageSpec | None = None
    tokenizer_spec: TokenizerSpec | None = None
    calibration: Calibration | None = None
    pad: int = 0  # of the reference tokenizer, if there is no tokenizer_spec
    notes: tuple[str, ...] = ()
